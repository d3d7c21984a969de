// What the pods of a node request, against what it has. Pure.
import type { Column, Obj, Row, Tree } from '../api/types';
import { bytes, cores, quantity } from '../ui/quantity';

export interface Use {
  name: string;
  used: number;
  has: number;
  words: string;
}

/** Requests of a pod: the sum of its containers, or its largest init container where that is more. */
export function requests(pod: Obj, resource: string): number {
  const of = (container: Tree): number => quantity(container.resources?.requests?.[resource]);
  const sum = (pod.spec?.containers ?? []).reduce((total: number, container: Tree) => total + of(container), 0);
  return Math.max(sum, 0, ...(pod.spec?.initContainers ?? []).map(of)) + quantity(pod.spec?.overhead?.[resource]);
}

export function use(node: Obj, pods: Obj[]): Use[] {
  const alive = pods.filter((pod) => !['Succeeded', 'Failed'].includes(pod.status?.phase));
  const has = (resource: string): number => quantity(node.status?.allocatable?.[resource]);
  const sum = (resource: string): number => alive.reduce((total, pod) => total + requests(pod, resource), 0);
  const of = (name: string, used: number, all: number, show: (value: number) => string): Use => ({ name, used, has: all, words: `${show(used)} of ${show(all)}` });
  return [
    of('CPU requested', sum('cpu'), has('cpu'), cores),
    of('Memory requested', sum('memory'), has('memory'), bytes),
    of('Pods', alive.length, has('pods'), String),
  ];
}

export function isReady(node: Obj): boolean {
  return (node.status?.conditions ?? []).some((one: Tree) => one.type === 'Ready' && one.status === 'True');
}

/** What a node is short of, by its conditions. */
export const PRESSURES = ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'NetworkUnavailable'];

export function pressures(node: Obj): string[] {
  return PRESSURES.filter((type) => (node.status?.conditions ?? []).some((one: Tree) => one.type === type && one.status === 'True'));
}

/** A table of nodes with what they are short of, beside their state. */
export function withPressure(columns: Column[], rows: Row[], nodes: Obj[]): { columns: Column[]; rows: Row[] } {
  if (columns.length === 0) return { columns, rows };
  const found = new Map(nodes.map((node) => [node.metadata.name, pressures(node).join(', ')]));
  const at = columns.findIndex(({ name }) => name === 'Status') + 1 || columns.length;
  const column = { name: 'Pressure', type: 'string', description: 'What the node runs out of, by its conditions.', priority: 0 };
  return { columns: columns.toSpliced(at, 0, column), rows: rows.map((row) => ({ ...row, cells: row.cells.toSpliced(at, 0, found.get(row.object.metadata.name) ?? '') })) };
}

/** Those that are not ready first, then those that run out of something, then those of which the most is used. */
export function worst<Row extends { ready: boolean; short: string[]; uses: Use[] }>(rows: Row[]): Row[] {
  const share = ({ uses }: Row): number => Math.max(0, ...uses.map(({ used, has }) => (has > 0 ? used / has : 0)));
  return [...rows].sort((a, b) => Number(a.ready) - Number(b.ready) || b.short.length - a.short.length || share(b) - share(a));
}
