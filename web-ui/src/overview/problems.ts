// What is wrong now, each cause once: findings of many objects that come from the same owner are one. Pure.
import type { Obj } from '../api/types';
import { explain, type Finding } from '../explain/explain';

export interface Problem {
  finding: Finding;
  /** What it befalls, the first of them. */
  object: Obj;
  owner: { kind: string; name: string } | null;
  count: number;
}

/** Problems, what does not get well by itself first. */
export function problems(objects: Obj[], events: Obj[], now: number): Problem[] {
  const byObject = new Map<string, Obj[]>();
  for (const event of events) {
    const uid: string = event.involvedObject?.uid ?? '';
    byObject.set(uid, [...(byObject.get(uid) ?? []), event]);
  }
  const found = new Map<string, Problem>();
  for (const object of objects) {
    const finding = explain(object, byObject.get(object.metadata.uid ?? '') ?? [], now);
    if (!finding || brief(object, finding, now)) continue;
    const reference = (object.metadata.ownerReferences ?? []).find((one) => one.controller);
    const owner = reference ? { kind: reference.kind, name: reference.name } : null;
    // Of nodes it is the cause that counts, whichever they are.
    const of = object.kind === 'Node' ? '' : (owner?.name ?? object.metadata.uid);
    const key = [object.metadata.namespace, of, object.kind, general(finding.what, object)].join('\n');
    const known = found.get(key);
    if (known) known.count++;
    else found.set(key, { finding, object, owner, count: 1 });
  }
  const sorted = [...found.values()].sort((a, b) => rank(a) - rank(b) || b.count - a.count);
  return withoutEchoes(sorted);
}

const rank = (problem: Problem): number => (problem.finding.tone === 'bad' ? 0 : 1);

/** What has hardly begun is not wrong yet. */
function brief(object: Obj, finding: Finding, now: number): boolean {
  return finding.tone === 'wait' && now - Date.parse(object.metadata.creationTimestamp ?? '') < 15_000;
}

/** Addresses differ from pod to pod though the cause is one. */
const general = (what: string, object: Obj): string => what.replace(wordOf(object.metadata.name), '').replace(/\d+\.\d+\.\d+\.\d+/g, '');

/** A name where it stands by itself. */
const wordOf = (name: string): RegExp => new RegExp(`(?<![\\w-])${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\w-])`, 'g');

/** A workload whose pods tell why says nothing new. */
function withoutEchoes(sorted: Problem[]): Problem[] {
  const told = new Set(sorted.filter(({ object }) => object.kind === 'Pod').map(({ object }) => object.metadata.namespace));
  return sorted.filter(({ object, finding }) => !(/pods are ready\.$/.test(finding.what) && told.has(object.metadata.namespace)));
}

/** Which state pods are in, for the overview. */
export function tally(pods: Obj[], stateOf: (pod: Obj) => string): [string, number][] {
  const counts = new Map<string, number>();
  for (const pod of pods) counts.set(stateOf(pod), (counts.get(stateOf(pod)) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a);
}
