// What the pods of a node request, against what it has. Pure.
import type { Obj, Tree } from '../api/types';
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

/** Those that are not ready first, then those of which the most is used. */
export function worst<Row extends { ready: boolean; uses: Use[] }>(rows: Row[]): Row[] {
  const share = ({ uses }: Row): number => Math.max(0, ...uses.map(({ used, has }) => (has > 0 ? used / has : 0)));
  return [...rows].sort((a, b) => Number(a.ready) - Number(b.ready) || share(b) - share(a));
}
