// From the server's rows to what the table shows: columns, filter, order. Pure.
import type { Column, Row } from '../api/types';
import { age } from '../ui/time';

export interface Shown {
  /** Index into a row's cells; -1 is the namespace. */
  index: number;
  name: string;
  description: string;
  /** Shown unless the user chose otherwise. */
  usual: boolean;
  age: boolean;
}

export interface Order {
  column: string;
  down: boolean;
}

export const NAMESPACE = -1;

/** The columns of a table; the namespace comes first where rows of several are shown. */
export function columnsOf(columns: Column[], namespaces: boolean): Shown[] {
  const shown = columns.map((column, index) => ({
    index,
    name: column.name,
    description: column.description ?? '',
    usual: column.priority === 0,
    age: /^age$/i.test(column.name),
  }));
  const namespace = { index: NAMESPACE, name: 'Namespace', description: '', usual: true, age: false };
  return namespaces ? [namespace, ...shown] : shown;
}

export function text(row: Row, column: Shown, now: number): string {
  if (column.index === NAMESPACE) return row.object.metadata.namespace ?? '';
  if (column.age) return age(row.object.metadata.creationTimestamp, now);
  const cell = row.cells[column.index];
  return cell === null || cell === undefined ? '' : typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
}

/** Words that all have to occur; `!word` must not; `a|b` is one of several. */
export function matcher(filter: string): (haystack: string) => boolean {
  const terms = filter.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const no = word.startsWith('!') && word.length > 1;
    return { no, any: (no ? word.slice(1) : word).split('|').filter(Boolean) };
  });
  return (haystack) => terms.every(({ no, any }) => any.some((part) => haystack.includes(part)) !== no);
}

function haystack(row: Row): string {
  const { name, namespace, labels } = row.object.metadata;
  const pairs = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return [namespace, name, ...row.cells, ...pairs].join(' ').toLowerCase();
}

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

/** Rows that pass the filter, in their order; by namespace and name unless one is asked for. */
export function arrange(rows: Row[], columns: Shown[], filter: string, order: Order | null): Row[] {
  const passes = matcher(filter);
  const left = filter.trim() === '' ? rows.slice() : rows.filter((row) => passes(haystack(row)));
  const column = order && columns.find((candidate) => candidate.name === order.column);
  const keyed = left.map((row) => ({ row, key: column ? sortKey(row, column) : '', place: place(row) }));
  const sign = order?.down ? -1 : 1;
  keyed.sort((a, b) => sign * compare(a.key, b.key) || (a.place < b.place ? -1 : a.place > b.place ? 1 : 0));
  return keyed.map(({ row }) => row);
}

const place = (row: Row): string => `${row.object.metadata.namespace ?? ''}/${row.object.metadata.name}`;

function sortKey(row: Row, column: Shown): string | number {
  // The younger, the smaller.
  if (column.age) return -Date.parse(row.object.metadata.creationTimestamp ?? '') || 0;
  const cell = row.cells[column.index];
  return column.index !== NAMESPACE && typeof cell === 'number' ? cell : text(row, column, 0);
}

function compare(a: string | number, b: string | number): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return a === b ? 0 : collator.compare(String(a), String(b));
}

/** `name`, `-name` in an address. */
export function orderOf(text: string | undefined): Order | null {
  if (!text) return null;
  return text.startsWith('-') ? { column: text.slice(1), down: true } : { column: text, down: false };
}

/** The next order at a press on a column's head: up, down, none. */
export function turned(order: Order | null, column: string): string {
  if (order?.column !== column) return column;
  return order.down ? '' : `-${column}`;
}
