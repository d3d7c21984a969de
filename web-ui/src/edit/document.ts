// An object as the YAML that people edit, and what an edit changes. Pure.
import { parseDocument, stringify } from 'yaml';
import type { Obj, Tree } from '../api/types';

const SERVER_OWNED = ['managedFields', 'resourceVersion', 'uid', 'generation', 'creationTimestamp', 'selfLink'];
const ORDER = ['apiVersion', 'kind', 'metadata', 'type', 'spec', 'data', 'status'];

/** Without what the server keeps; the status only where it is to be read. */
export function editable(object: Obj, status = false): Tree {
  const copy = structuredClone(object) as Tree;
  for (const field of SERVER_OWNED) delete copy.metadata[field];
  if (!status) delete copy.status;
  return Object.fromEntries(Object.entries(copy).sort(([a], [b]) => place(a) - place(b)));
}

const place = (field: string): number => (ORDER.includes(field) ? ORDER.indexOf(field) : ORDER.length - 1.5);

export function toYaml(value: Tree): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** What the text says; throws a sentence where it is no object. */
export function fromYaml(text: string): Obj {
  // Anchors that name each other without end are cut off.
  const document = parseDocument(text, { maxAliasCount: 100 } as Tree);
  const [error] = document.errors;
  if (error) throw new Error(`This is not YAML: ${error.message.split('\n')[0]}`);
  const value = document.toJS({ maxAliasCount: 100 }) as Tree;
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Error('An object is wanted: fields and their values.');
  if (typeof value.metadata !== 'object' || value.metadata === null) throw new Error('The object has no metadata.');
  return value;
}

/** The merge patch that makes `after` of `before`; null takes a field away, lists are replaced as a whole. */
export function mergePatch(before: Tree, after: Tree): Tree | undefined {
  if (!isMap(before) || !isMap(after)) return same(before, after) ? undefined : after;
  const patch: Tree = {};
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (!(key in after)) patch[key] = null;
    else if (!(key in before)) patch[key] = after[key];
    else {
      const inner = mergePatch(before[key], after[key]);
      if (inner !== undefined) patch[key] = inner;
    }
  }
  return Object.keys(patch).length === 0 ? undefined : patch;
}

const isMap = (value: Tree): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Whether two trees say the same. */
export function same(a: Tree, b: Tree): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => same(a[key], b[key]));
}

export interface Conflict {
  field: string;
  manager: string;
}

/** Who owns the fields that an apply would change, from the server's refusal. */
export function conflicts(status: Tree): Conflict[] {
  return (status?.details?.causes ?? [])
    .filter((cause: Tree) => cause.reason === 'FieldManagerConflict')
    .map((cause: Tree) => ({ field: cause.field ?? '', manager: /conflict with "([^"]+)"/.exec(cause.message ?? '')?.[1] ?? cause.message ?? '' }));
}
