import { expect, test } from 'vitest';
import type { Obj, Tree } from '../api/types';
import { problems, tally } from './problems';

const NOW = Date.parse('2026-06-01T12:00:00Z');
const OLD = '2026-06-01T11:00:00Z';

const crashing = (name: string, owner = 'web-1', created = OLD): Obj => ({
  kind: 'Pod',
  metadata: { name, namespace: 'a', uid: name, creationTimestamp: created, ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: owner, uid: owner, controller: true }] },
  spec: { nodeName: 'n', containers: [{ name: 'app' }] },
  status: { phase: 'Running', containerStatuses: [{ name: 'app', restartCount: 2, state: { waiting: { reason: 'CrashLoopBackOff' } }, lastState: { terminated: { exitCode: 1 } } }] },
});
const deployment: Obj = { kind: 'Deployment', metadata: { name: 'web', namespace: 'a', uid: 'd', creationTimestamp: OLD }, spec: { replicas: 2 }, status: { observedGeneration: 1 } };

test('the same cause of the same owner is told once', () => {
  const found = problems([crashing('web-1-x'), crashing('web-1-y'), crashing('db-0', 'db')], [], NOW);
  expect(found.map((one) => [one.owner?.name, one.count])).toEqual([['web-1', 2], ['db', 1]]);
});

test('a workload does not echo its pods, but speaks where they do not', () => {
  expect(problems([deployment, crashing('web-1-x')], [], NOW)).toHaveLength(1);
  expect(problems([deployment], [], NOW)[0]!.finding.what).toBe('0 of 2 pods are ready.');
});

test("each object is told by its own events", () => {
  const pending: Obj = { kind: 'Pod', metadata: { name: 'p', namespace: 'a', uid: 'p', creationTimestamp: OLD }, spec: {}, status: { phase: 'Pending' } };
  const event = (uid: string): Obj => ({ metadata: { name: 'e' }, reason: 'FailedScheduling', message: '0/1 nodes are available: 1 Insufficient cpu.', involvedObject: { uid } }) as Tree;
  expect(problems([pending], [event('p')], NOW)[0]!.finding.what).toContain('too little CPU');
  expect(problems([pending], [event('q')], NOW)[0]!.finding.what).toBe('It waits for the scheduler.');
});

test('what has just begun is not wrong, and what is bad comes first', () => {
  const fresh: Obj = { ...deployment, metadata: { ...deployment.metadata, creationTimestamp: '2026-06-01T11:59:55Z' } };
  expect(problems([fresh], [], NOW)).toEqual([]);
  const paused: Obj = { ...deployment, metadata: { ...deployment.metadata, uid: 'e', namespace: 'b' }, spec: { replicas: 1, paused: true } };
  expect(problems([paused, crashing('x')], [], NOW).map((one) => one.finding.tone)).toEqual(['bad', 'wait']);
});

test('nodes with the same trouble are told of together', () => {
  const node = (name: string, status: string): Obj => ({ kind: 'Node', metadata: { name, uid: name, creationTimestamp: OLD }, status: { conditions: [{ type: 'Ready', status, message: 'no runtime.' }] } });
  const found = problems([node('a', 'Unknown'), node('b', 'False'), node('c', 'Unknown'), node('d', 'True')], [], NOW);
  expect(found.map((one) => [one.object.metadata.name, one.count])).toEqual([['a', 2], ['b', 1]]);
});

test('tally', () => expect(tally([crashing('a'), crashing('b')], () => 'Running')).toEqual([['Running', 2]]));
