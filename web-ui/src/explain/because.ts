// A workload is not ready since its pods are not: theirs is the reason to say. Pure.
import type { Obj } from '../api/types';
import { explain, type Finding } from './explain';

/** A workload's finding with the reason that one of its pods gives, one that does not get well by itself first. */
export function because(finding: Finding | null, pods: Obj[], events: Obj[], now: number): Finding | null {
  if (!finding || !/pods are ready\.$/.test(finding.what)) return finding;
  const found = pods.flatMap((pod) => {
    const own = explain(pod, events.filter((event) => event.involvedObject?.uid === pod.metadata.uid), now);
    return own ? [{ name: pod.metadata.name, own }] : [];
  });
  const first = found.find(({ own }) => own.tone === 'bad') ?? found[0];
  return first ? { tone: first.own.tone === 'bad' ? 'bad' : finding.tone, what: `${finding.what} ${first.name}: ${first.own.what}`, next: first.own.next } : finding;
}
