import { expect, test } from 'vitest';
import type { Obj, Tree } from '../api/types';
import { around } from './relate';

const make = (kind: string, name: string, more: Tree = {}): Obj => ({ kind, apiVersion: more.apiVersion ?? 'v1', ...more, metadata: { name, namespace: 'a', uid: `${kind}-${name}`, ...more.metadata } });
const owned = (kind: string, name: string): Tree => ({ ownerReferences: [{ apiVersion: 'apps/v1', kind, name, uid: `${kind}-${name}`, controller: true }] });

const deployment = make('Deployment', 'web', { apiVersion: 'apps/v1' });
const objects = [
  deployment,
  make('ReplicaSet', 'web-1', { apiVersion: 'apps/v1', metadata: owned('Deployment', 'web') }),
  make('Pod', 'web-1-x', { metadata: { ...owned('ReplicaSet', 'web-1'), labels: { app: 'web' } }, spec: { volumes: [{ name: 'c', configMap: { name: 'settings' } }], containers: [{ env: [{ valueFrom: { secretKeyRef: { name: 'db' } } }] }], serviceAccountName: 'robot' } }),
  make('Service', 'web', { spec: { selector: { app: 'web' } } }),
  make('Service', 'headless', { spec: {} }),
  make('Ingress', 'front', { apiVersion: 'networking.k8s.io/v1', spec: { rules: [{ http: { paths: [{ backend: { service: { name: 'web' } } }] } }] } }),
  make('EndpointSlice', 'web-abc', { metadata: owned('Service', 'web'), endpoints: [{ targetRef: { kind: 'Pod', name: 'web-1-x' } }] }),
  make('Pod', 'other', { spec: { volumes: [{ configMap: { name: 'settings' } }] } }),
  make('HorizontalPodAutoscaler', 'web', { spec: { scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' } } }),
];

test('from the ingress to the configuration', () => {
  const graph = around(objects, deployment, 50);
  const ids = graph.things.map((thing) => thing.id).sort();
  expect(ids).toEqual(['ConfigMap/a/settings', 'Deployment/a/web', 'EndpointSlice/a/web-abc', 'HorizontalPodAutoscaler/a/web', 'Ingress/a/front', 'Pod/a/web-1-x', 'ReplicaSet/a/web-1', 'Secret/a/db', 'Service/a/web', 'ServiceAccount/a/robot']);
  const edges = graph.edges.map((edge) => `${edge.from} ${edge.how} ${edge.to}`);
  expect(edges).toContain('Deployment/a/web owns ReplicaSet/a/web-1');
  expect(edges).toContain('Ingress/a/front routes to Service/a/web');
  expect(edges).toContain('Service/a/web owns EndpointSlice/a/web-abc');
  expect(edges).toContain('EndpointSlice/a/web-abc lists Pod/a/web-1-x');
  expect(edges).not.toContain('Service/a/web routes to Pod/a/web-1-x');
  const without = around(objects.filter((one) => one.kind !== 'EndpointSlice'), deployment, 50);
  expect(without.edges.map((edge) => `${edge.from} ${edge.how} ${edge.to}`)).toContain('Service/a/web routes to Pod/a/web-1-x');
  expect(edges).toContain('Pod/a/web-1-x reads Secret/a/db');
});

test('who uses a ConfigMap, and nothing beyond what is shared', () => {
  const graph = around(objects, make('ConfigMap', 'settings'), 50);
  expect(graph.things.map((thing) => thing.id)).toEqual(expect.arrayContaining(['Pod/a/other', 'Pod/a/web-1-x']));
  const secret = around(objects, make('Secret', 'db'), 50);
  expect(secret.things.map((thing) => thing.id)).not.toContain('Pod/a/other');
});

test('there is a most', () => {
  const graph = around(objects, deployment, 3);
  expect([graph.things.length, graph.more]).toEqual([3, 7]);
});

test('owners in a circle end', () => {
  const circle = [make('A', 'x', { metadata: owned('B', 'y') }), make('B', 'y', { metadata: owned('A', 'x') })];
  expect(around(circle, circle[0]!, 10).things).toHaveLength(2);
});

test('what uses something but has no pods yet is found by its template', () => {
  const spec = { volumes: [{ configMap: { name: 'settings' } }] };
  const idle = make('Deployment', 'idle', { apiVersion: 'apps/v1', spec: { replicas: 0, selector: { matchLabels: { app: 'idle' } }, template: { spec } } });
  const cron = make('CronJob', 'nightly', { apiVersion: 'batch/v1', spec: { jobTemplate: { spec: { template: { spec } } } } });
  const edges = (all: Obj[]): string[] => around(all, make('ConfigMap', 'settings'), 50).edges.map((edge) => `${edge.from} ${edge.how}`);
  expect(edges([idle, cron]).sort()).toEqual(['CronJob/a/nightly mounts', 'Deployment/a/idle mounts']);
  const pod = make('Pod', 'idle-x', { metadata: { labels: { app: 'idle' } }, spec });
  expect(edges([idle, pod])).toEqual(['Pod/a/idle-x mounts']);
});
