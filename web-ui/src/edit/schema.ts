// A kind's OpenAPI schema against the YAML that is being written: what is wrong, and what may come next. Pure; the server's
// dry run has the last word. Ours, since the editor's extension for JSON schema (codemirror-json-schema 0.8) brings a highlighter
// in WebAssembly and makes markup of descriptions, which the page's content policy forbids.
import { isMap, isPair, isScalar, isSeq, parseDocument, type Document, type Node } from 'yaml';
import type { Tree } from '../api/types';

export interface Complaint {
  from: number;
  to: number;
  message: string;
  severity: 'error' | 'warning';
}

export interface Choice {
  label: string;
  detail: string;
  info: string;
  /** What is written for it. */
  text: string;
}

/** Finds schemas in an OpenAPI v3 document. */
export class Schemas {
  constructor(private readonly document: Tree) {}

  of(group: string, version: string, kind: string): Tree | undefined {
    const all: Tree[] = Object.values(this.document.components?.schemas ?? {});
    return all.find((schema) => (schema['x-kubernetes-group-version-kind'] ?? []).some((one: Tree) => one.group === group && one.version === version && one.kind === kind));
  }

  /** With references followed and what `allOf` adds. */
  resolve(schema: Tree): Tree {
    let found = schema;
    for (let depth = 0; found && depth < 8; depth++) {
      const reference: string | undefined = found.$ref ?? (found.allOf?.length === 1 ? found.allOf[0].$ref : undefined);
      if (!reference) break;
      const { allOf: _, $ref: __, ...own } = found;
      found = { ...this.document.components?.schemas?.[reference.split('/').pop() ?? ''], ...own };
    }
    return found ?? {};
  }

  /** The schema at a path of fields and list items. */
  at(schema: Tree, path: (string | number)[]): Tree | undefined {
    let found: Tree | undefined = this.resolve(schema);
    for (const step of path) {
      if (!found) return undefined;
      const inner: Tree | undefined = typeof step === 'number' ? found.items : (found.properties?.[step] ?? (typeof found.additionalProperties === 'object' ? found.additionalProperties : undefined));
      found = inner && this.resolve(inner);
    }
    return found;
  }
}

export function check(text: string, schema: Tree | undefined, schemas: Schemas): Complaint[] {
  const document = parseDocument(text);
  const syntax = document.errors.map((error) => ({ from: error.pos[0], to: Math.max(error.pos[1], error.pos[0] + 1), message: error.message.split('\n')[0]!, severity: 'error' as const }));
  if (syntax.length > 0 || !schema || !document.contents) return syntax;
  const found: Complaint[] = [];
  examine(document.contents as Node, schemas.resolve(schema), schemas, '', found);
  return found;
}

function examine(node: Node, schema: Tree, schemas: Schemas, path: string, found: Complaint[]): void {
  const [from, to] = node.range ?? [0, 0];
  const complain = (message: string): number => found.push({ from, to, message, severity: 'error' });
  if (schema['x-kubernetes-int-or-string'] || schema.oneOf || schema.anyOf) return;
  if (isMap(node)) {
    if (schema.type && schema.type !== 'object') return void complain(`${path || 'This'} wants ${words(schema.type)}.`);
    for (const pair of node.items) {
      const key = isScalar(pair.key) ? String(pair.key.value) : '';
      const place: [number, number] = isScalar(pair.key) ? [pair.key.range?.[0] ?? from, pair.key.range?.[1] ?? to] : [from, to];
      const inner = schema.properties?.[key] ?? (typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined);
      if (!inner) {
        if (closed(schema)) found.push({ from: place[0], to: place[1], message: `There is no field ${key} here.`, severity: 'error' });
      } else if (pair.value) examine(pair.value as Node, schemas.resolve(inner), schemas, path ? `${path}.${key}` : key, found);
    }
    for (const field of (schema.required ?? []) as string[]) {
      if (!node.items.some((pair) => isScalar(pair.key) && pair.key.value === field)) found.push({ from, to: Math.min(to, from + 1), message: `${path || 'The object'} needs ${field}.`, severity: 'error' });
    }
  } else if (isSeq(node)) {
    if (schema.type && schema.type !== 'array') return void complain(`${path} wants ${words(schema.type)}.`);
    for (const item of node.items) if (schema.items && item && !isPair(item)) examine(item as Node, schemas.resolve(schema.items), schemas, path, found);
  } else if (isScalar(node) && node.value !== null) scalar(node.value, schema, path, complain);
}

/** Whether fields that the schema does not name are mistakes. */
const closed = (schema: Tree): boolean => Boolean(schema.properties) && !schema.additionalProperties && !schema['x-kubernetes-preserve-unknown-fields'] && !schema['x-kubernetes-embedded-resource'];

function scalar(value: unknown, schema: Tree, path: string, complain: (message: string) => void): void {
  const fits: Record<string, boolean> = {
    string: typeof value === 'string' || value instanceof Date,
    integer: Number.isInteger(value) || typeof value === 'bigint',
    number: typeof value === 'number',
    boolean: typeof value === 'boolean',
    object: false,
    array: false,
  };
  if (schema.type && fits[schema.type] === false) return complain(`${path} wants ${words(schema.type)}.`);
  if (schema.enum && !schema.enum.includes(value)) complain(`${path} is one of ${schema.enum.join(', ')}.`);
}

const words = (type: string): string => ({ object: 'fields', array: 'a list', string: 'text', integer: 'a whole number', number: 'a number', boolean: 'true or false' })[type] ?? type;

/** Where the cursor stands: the path of what is around it, and the field whose value is being written, if one is. */
export function context(text: string, position: number): { path: (string | number)[]; value: string | null } {
  const before = text.slice(0, position).split('\n');
  const line = before.pop() ?? '';
  let indent = /^ */.exec(line)![0].length;
  const bare = line.slice(indent);
  let item = /^(?:- +)+/.exec(bare)?.[0].length ?? 0;
  if (bare === '-') item = 1;
  const valueOf = /^([\w./-]+): *\S*$/.exec(bare.slice(item));
  const path: (string | number)[] = [];
  // A line of a list item belongs to the item, whose fields stand behind its dash.
  if (item > 0) path.unshift(0);
  for (let at = before.length - 1; at >= 0; at--) {
    const found = /^( *)((?:- +)*)([\w./-]+):/.exec(before[at]!);
    if (!found) continue;
    const [, blanks = '', dashes = '', key = ''] = found;
    const column = blanks.length + dashes.length;
    const isItem = dashes.length > 0;
    if (column < indent || (item > 0 && !isItem && column <= indent)) {
      path.unshift(key);
      if (isItem) path.unshift(0);
      indent = isItem ? blanks.length : column;
      item = isItem ? 1 : 0;
    } else if (isItem && column === indent && item === 0) {
      path.unshift(0);
      indent = blanks.length;
      item = 1;
    }
    if (indent === 0 && item === 0) break;
  }
  return { path, value: valueOf?.[1] ?? null };
}

/** What may be written at the cursor. */
export function choices(text: string, position: number, schema: Tree, schemas: Schemas): Choice[] {
  const { path, value } = context(text, position);
  const around = schemas.at(schema, path);
  if (!around) return [];
  if (value !== null) {
    const field = around.properties?.[value] && schemas.resolve(around.properties[value]);
    const values: unknown[] = field?.enum ?? (field?.type === 'boolean' ? [true, false] : []);
    return values.map((one) => ({ label: String(one), detail: '', info: '', text: String(one) }));
  }
  return Object.entries(around.properties ?? {}).map(([label, inner]) => {
    const field = schemas.resolve(inner as Tree);
    const type: string = field.type ?? '';
    return { label, detail: (around.required ?? []).includes(label) ? `${type}, required` : type, info: field.description ?? '', text: `${label}:${type === 'object' || type === 'array' ? '' : ' '}` };
  });
}

export type { Document };
