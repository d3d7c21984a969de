// Whose fields a change touches: an edit is a patch, which the server lets through, but whoever applies a field sets it back.
// Pure; `managedFields` says who that is, as Kubernetes' FieldsV1.
import type { Obj, Tree } from '../api/types';
import { same, type Conflict } from './document';

/** Fields that others apply, or scale, and that differ between the two. */
export function touched(before: Obj, after: Obj, self = 'wherry-ui'): Conflict[] {
  const found: Conflict[] = [];
  for (const { manager, operation, subresource, fieldsV1 } of before.metadata.managedFields ?? []) {
    const keeps = subresource === 'scale' || (operation === 'Apply' && !subresource);
    if (!keeps || manager === self) continue;
    walk(fieldsV1 ?? {}, before, after, '', (field) => found.some((one) => one.field === field && one.manager === manager) || found.push({ field, manager }));
  }
  return found;
}

function walk(fields: Tree, before: Tree, after: Tree, path: string, say: (field: string) => void): void {
  for (const [key, inner] of Object.entries(fields) as [string, Tree][]) {
    const step = key === '.' ? null : stepOf(key);
    if (!step) continue;
    const [old, fresh] = [step.of(before), step.of(after)];
    if (Object.keys(inner).some((one) => one !== '.')) walk(inner, old, fresh, path + step.name, say);
    else if (!same(old, fresh)) say(path + step.name);
  }
}

interface Step {
  name: string;
  of: (value: Tree) => Tree;
}

/** `f:name`, `k:{"name":"web"}`, `v:"x"` and `i:0`, as FieldsV1 writes them. */
function stepOf(key: string): Step | null {
  const [mark, rest] = [key.slice(0, 2), key.slice(2)];
  if (mark === 'f:') return { name: `.${rest}`, of: (value) => value?.[rest] };
  if (mark === 'i:') return { name: `[${rest}]`, of: (value) => value?.[Number(rest)] };
  const wanted = parsed(rest);
  const items = (value: Tree): Tree[] => (Array.isArray(value) ? value : []);
  if (mark === 'v:') return { name: `[=${rest}]`, of: (value) => items(value).find((item) => same(item, wanted)) };
  if (mark !== 'k:' || typeof wanted !== 'object' || wanted === null) return null;
  const names = Object.entries(wanted).map(([name, is]) => `${name}=${JSON.stringify(is)}`);
  return { name: `[${names.join(',')}]`, of: (value) => items(value).find((item) => Object.entries(wanted).every(([name, is]) => same(item?.[name], is))) };
}

function parsed(text: string): Tree {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
