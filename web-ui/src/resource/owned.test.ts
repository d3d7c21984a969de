import { afterEach, expect, test, vi } from 'vitest';
import type { Kind } from '../api/discovery';
import type { Obj } from '../api/types';
import { byKind, collections, gather, goWith, ownedBy } from './owned';

const kindOf = (group: string, plural: string, kind: string, more: Partial<Kind> = {}): Kind => ({
  group, version: 'v1', plural, kind, singular: '', shortNames: [], verbs: ['list', 'delete'], namespaced: true, categories: [], subresources: [], ...more,
});
const object = (kind: string, uid: string, ...owners: string[]): Obj => ({
  kind, metadata: { name: uid, namespace: 'a', uid, ownerReferences: owners.map((owner) => ({ apiVersion: 'v1', kind: 'X', name: owner, uid: owner })) },
});

test('what an object owns goes with it, and what that owns', () => {
  const objects = [
    object('Pod', 'pod-1', 'set'), object('ReplicaSet', 'set', 'web'), object('Pod', 'pod-2', 'set'), object('Deployment', 'web'),
    object('Pod', 'alone'), object('ConfigMap', 'shared', 'web', 'other'), object('ConfigMap', 'both', 'web', 'set'), object('Pod', 'stranger', 'other'),
  ];
  const names = (found: Obj[]): string[] => found.map((one) => one.metadata.name).sort();
  expect(names(goWith(objects, 'web'))).toEqual(['both', 'pod-1', 'pod-2', 'set']);
  expect(names(ownedBy(objects, 'web'))).toEqual(['both', 'set', 'shared']);
  expect(goWith(objects, 'alone')).toEqual([]);
  expect(byKind(goWith(objects, 'web'))).toEqual([['Pod', ['pod-1', 'pod-2']], ['ConfigMap', ['both']], ['ReplicaSet', ['set']]]);
});

test('owners in a circle end', () => {
  expect(goWith([object('A', 'a', 'b'), object('B', 'b', 'a')], 'a').map((one) => one.metadata.name)).toEqual(['b']);
});

const pods = kindOf('', 'pods', 'Pod');
const nodes = kindOf('', 'nodes', 'Node', { namespaced: false });
const namespaces = kindOf('', 'namespaces', 'Namespace', { namespaced: false });
const definitions = kindOf('apiextensions.k8s.io', 'customresourcedefinitions', 'CustomResourceDefinition', { namespaced: false });
const boats = kindOf('sea.example', 'boats', 'Boat');
const kinds = [pods, nodes, namespaces, definitions, boats, kindOf('', 'events', 'Event'), kindOf('metrics.k8s.io', 'pods', 'PodMetrics', { verbs: ['list'] })];

test.each([
  ['in a namespace, what is beside it', pods, 'a', 'x', [[pods, 'a'], [boats, 'a']]],
  ['a namespace, what is in it', namespaces, undefined, 'b', [[pods, 'b'], [boats, 'b']]],
  ['a definition, its objects', definitions, undefined, 'boats.sea.example', [[boats, undefined]]],
  ['elsewhere, everything', nodes, undefined, 'n', [[pods, undefined], [nodes, undefined], [namespaces, undefined], [definitions, undefined], [boats, undefined]]],
] as const)('is looked for: %s', (_, kind, namespace, name, places) => {
  expect(collections(kinds, kind, namespace, name)).toEqual(places.map(([kind, namespace]) => ({ kind, namespace })));
});

afterEach(() => vi.unstubAllGlobals());

test('lists are read by pages, and what may not be read is told', async () => {
  const asked: string[] = [];
  vi.stubGlobal('fetch', async (path: string) => {
    asked.push(path);
    if (path.includes('/boats')) return Response.json({ kind: 'Status', code: 403, message: 'no' }, { status: 403 });
    if (path.includes('/nodes')) return Response.json({ kind: 'List', metadata: { continue: 'on' }, items: [] });
    return Response.json({ kind: 'List', metadata: path.includes('continue=') ? {} : { continue: 'more' }, items: [object('', path.includes('continue=') ? 'two' : 'one')] });
  });
  const found = await gather([pods, boats, nodes].map((kind) => ({ kind, namespace: 'a' })), new AbortController().signal);
  expect(found.objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual(['Pod one', 'Pod two']);
  expect([found.refused, found.cut]).toEqual([[boats], [nodes]]);
  expect(asked.filter((path) => path.includes('/pods'))).toEqual(['/api/v1/namespaces/a/pods?limit=500', '/api/v1/namespaces/a/pods?limit=500&continue=more']);
  expect(asked.filter((path) => path.includes('/nodes'))).toHaveLength(10);
});
