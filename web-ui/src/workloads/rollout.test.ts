import { expect, test } from 'vitest';
import type { Obj, Tree } from '../api/types';
import { history, progress, restart, undo } from './rollout';

const deployment = (status: Tree, replicas = 4): Obj => ({
  kind: 'Deployment',
  metadata: { name: 'web', uid: 'd', generation: 2, annotations: { 'deployment.kubernetes.io/revision': '3' } },
  spec: { replicas },
  status: { observedGeneration: 2, ...status },
});

test.each([
  [{ observedGeneration: 1 }, 0, 'The change has not been seen yet.'],
  [{ replicas: 4, updatedReplicas: 2, availableReplicas: 4 }, 0.5, '2 of 4 pods are of the newest revision.'],
  [{ replicas: 5, updatedReplicas: 4, availableReplicas: 4 }, 1, '1 pods of older revisions are to end.'],
  [{ replicas: 4, updatedReplicas: 4, availableReplicas: 2 }, 0.75, '2 of 4 pods are available.'],
  [{ replicas: 4, updatedReplicas: 4, availableReplicas: 4 }, 1, 'All 4 pods are of the newest revision and available.'],
])('%j', (status, done, words) => {
  const found = progress(deployment(status));
  expect([found.done, found.words]).toEqual([done, words]);
});

test('a daemon set counts nodes', () => {
  const set: Obj = { kind: 'DaemonSet', metadata: { name: 'd' }, status: { desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2 } };
  expect(progress(set).finished).toBe(true);
});

const set = (name: string, revision: string, owner = 'd'): Obj => ({
  metadata: { name, ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', name: 'web', uid: owner, controller: true }], annotations: { 'deployment.kubernetes.io/revision': revision } },
  spec: { template: { metadata: { labels: { app: 'web', 'pod-template-hash': name } }, spec: { containers: [{ image: `shop:${revision}` }] } } },
});

test('the revisions of a deployment, newest first', () => {
  const found = history(deployment({}), [set('a', '1'), set('c', '3'), set('b', '2'), set('x', '9', 'other')], []);
  expect(found.map((one) => [one.number, one.current, one.images[0]])).toEqual([[3, true, 'shop:3'], [2, false, 'shop:2'], [1, false, 'shop:1']]);
  expect(found[0]!.template.metadata.labels).toEqual({ app: 'web' });
});

test('undoing changes the template alone, and only of what was looked at', () => {
  const found = deployment({});
  const [, previous] = history(found, [set('a', '1'), set('c', '3')], []);
  const patch = undo(found, previous!);
  expect(patch.at(-1)).toEqual({ op: 'replace', path: '/spec/template', value: previous!.template });
  expect(patch[1]).toEqual({ op: 'test', path: '/metadata/generation', value: 2 });
});

test('controller revisions', () => {
  const stateful: Obj = { kind: 'StatefulSet', metadata: { name: 's', uid: 's' }, status: { updateRevision: 's-2' } };
  const revision = (name: string, number: number): Obj => ({
    metadata: { name, ownerReferences: [{ apiVersion: 'apps/v1', kind: 'StatefulSet', name: 's', uid: 's', controller: true }] },
    revision: number,
    data: { spec: { template: { $patch: 'replace', spec: { containers: [{ image: `i:${number}` }] } } } },
  });
  const found = history(stateful, [], [revision('s-1', 1), revision('s-2', 2)]);
  expect(found.map((one) => one.current)).toEqual([true, false]);
  expect(found[1]!.template).toEqual({ spec: { containers: [{ image: 'i:1' }] } });
});

test('a restart is an annotation', () => {
  expect(restart(new Date('2026-01-01T00:00:00.123Z')).spec.template.metadata.annotations).toEqual({ 'kubectl.kubernetes.io/restartedAt': '2026-01-01T00:00:00Z' });
});
