// Why a pod has no node. The scheduler counts nodes by reason; here the reasons become words. Pure.
import type { Obj } from '../api/types';
import { bad, condition, event, wait, type Finding } from './explain';

interface Reason {
  pattern: RegExp;
  words: (found: RegExpExecArray, nodes: string) => string;
  next: string;
}

const REASONS: Reason[] = [
  { pattern: /Insufficient (\S+)/, words: (f, n) => `${n} ${has(n)} too little ${resource(f[1])} left`, next: 'Lower the requests of the pod, free the resource, or add a node.' },
  { pattern: /Too many pods/, words: (_, n) => `${n} ${has(n)} as many pods as fit`, next: 'Add a node or remove pods.' },
  { pattern: /untolerated taint(?:\(s\))? ?\{([^}]*)\}/, words: (f, n) => `${n} ${has(n)} the taint ${taint(f[1] ?? '')} that it does not tolerate`, next: 'Add a toleration, or remove the taint from a node.' },
  { pattern: /untolerated taint/, words: (_, n) => `${n} ${has(n)} a taint that it does not tolerate`, next: 'Add a toleration, or remove the taint from a node.' },
  { pattern: /unschedulable/, words: (_, n) => `${n} ${is(n)} cordoned`, next: 'Uncordon a node.' },
  { pattern: /didn't match Pod's node affinity\/selector|node\(s\) didn't match (?:node )?selector/, words: (_, n) => `${n} ${has(n)} not the labels that it asks for`, next: 'Change its nodeSelector or affinity, or label a node.' },
  { pattern: /didn't match pod anti-affinity/, words: (_, n) => `${n} ${has(n)} a pod that it must not stand beside`, next: 'Add a node, or relax its anti-affinity.' },
  { pattern: /didn't (?:match|satisfy existing pods?) .*affinity/, words: (_, n) => `${n} ${has(n)} none of the pods that it must stand beside`, next: 'See whether the pods that its affinity names run.' },
  { pattern: /topology spread/, words: (_, n) => `${n} would make the spread too uneven`, next: 'Add a node in another zone, or relax its topologySpreadConstraints.' },
  { pattern: /free ports/, words: (_, n) => `${n} ${has(n)} its host port in use`, next: 'Drop the hostPort, or free it.' },
  { pattern: /volume node affinity conflict/, words: (_, n) => `${n} cannot reach its volume`, next: 'See to which node or zone its PersistentVolume is bound.' },
  { pattern: /unbound immediate PersistentVolumeClaims|didn't find available persistent volumes/, words: (_, n) => `${n} ${has(n)} no volume for its claim`, next: 'See why its PersistentVolumeClaim is not bound.' },
  { pattern: /exceed max volume count/, words: (_, n) => `${n} ${has(n)} as many volumes as can be attached`, next: 'Add a node.' },
  { pattern: /No preemption victims|Preemption is not helpful|not eligible/, words: () => '', next: '' },
];

const has = (nodes: string): string => (nodes.startsWith('1 ') ? 'has' : 'have');
const is = (nodes: string): string => (nodes.startsWith('1 ') ? 'is' : 'are');
const resource = (name = ''): string => ({ cpu: 'CPU', memory: 'memory', 'ephemeral-storage': 'disk', pods: 'room for pods' })[name] ?? name;
const taint = (text: string): string => text.replace(/: *$/, '').trim();

export function scheduling(pod: Obj, events: Obj[]): Finding | null {
  const scheduled = condition(pod, 'PodScheduled');
  if (pod.spec?.nodeName) return null;
  if (scheduled?.reason === 'SchedulingGated') {
    const gates = (pod.spec?.schedulingGates ?? []).map((gate: { name: string }) => gate.name).join(', ');
    return wait(`It is held back by its scheduling gates: ${gates}.`, 'See to the controller that opens them.');
  }
  const message = scheduled?.status === 'False' ? (scheduled.message ?? '') : (event(events, /^FailedScheduling$/)?.message ?? '');
  if (message) return unschedulable(message);
  if (pod.status?.phase === 'Pending') return wait('It waits for the scheduler.', 'If it stays so, see whether the scheduler runs and whether its schedulerName is right.');
  return null;
}

export function unschedulable(message: string): Finding {
  const claim = /persistentvolumeclaim "([^"]+)" not found/.exec(message);
  if (claim) return bad(`Its PersistentVolumeClaim ${claim[1]} does not exist.`, 'Create the claim or name another.');
  if (/no nodes available|^0\/0 nodes/.test(message)) return bad('There is no node at all.', 'Add a node: `wherry node`, or `wherry up` without --no-node.');
  const counted = /^0\/(\d+) nodes are available: ([^]*)/.exec(message);
  const first = (counted?.[2] ?? '').split(/\bpreemption:/)[0]!;
  const found = parts(first).flatMap((part) => reasonOf(part, Number(counted?.[1] ?? 0)));
  if (found.length === 0) return bad(`No node takes it: ${message}`, 'Change what the message names.');
  found.sort((a, b) => b.count - a.count);
  return bad(`No node takes it: ${found.map((one) => one.words).join(', ')}.`, found[0]!.next);
}

/** Cuts at the commas between reasons, not at those within braces. */
function parts(text: string): string[] {
  return text.split(/,(?![^{]*\}) */).map((part) => part.trim().replace(/\.$/, '')).filter(Boolean);
}

function reasonOf(part: string, all: number): { words: string; next: string; count: number }[] {
  const [, number, rest] = /^(\d+)? ?([^]*)$/.exec(part) ?? [];
  const count = Number(number ?? all);
  for (const { pattern, words, next } of REASONS) {
    const found = pattern.exec(rest ?? '');
    if (!found) continue;
    const said = words(found, `${count} node${count === 1 ? '' : 's'}`);
    return said ? [{ words: said, next, count }] : [];
  }
  return rest ? [{ words: `${count} node${count === 1 ? '' : 's'}: ${rest.replace(/^node\(s\) /, '')}`, next: 'Change what the message names.', count }] : [];
}
