import { expect, test } from 'vitest';
import type { Kind } from '../api/discovery';
import type { Obj, Tree } from '../api/types';
import { allowed, matrix } from './rbac';

const kind = (plural: string, group = '', namespaced = true): Kind => ({ group, version: 'v1', plural, kind: plural, singular: '', shortNames: [], verbs: [], namespaced, categories: [], subresources: [] });
const role = (name: string, rules: Tree[], namespace?: string): Obj => ({ metadata: { name, ...(namespace ? { namespace } : {}) }, rules });
const bind = (ref: string, subject: Tree, namespace?: string): Obj => ({ metadata: { name: 'b', ...(namespace ? { namespace } : {}) }, roleRef: { kind: ref.split(' ')[0], name: ref.split(' ')[1] }, subjects: [subject] });

test.each([
  [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }, 8], [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }, 1], [{ verbs: ['get'], apiGroups: ['apps'], resources: ['pods'] }, 0],
  [{ verbs: ['get'], apiGroups: [''], resources: ['pods/log'] }, 0], [{ verbs: ['get'], nonResourceURLs: ['/healthz'] }, 0],
])('%j', (rule, count) => expect(allowed([rule], kind('pods')).size).toBe(count));

test('subresources', () => {
  expect(allowed([{ verbs: ['create'], apiGroups: [''], resources: ['pods/exec'] }], kind('pods'), 'exec').get('create')).toBe(true);
  expect(allowed([{ verbs: ['get'], apiGroups: ['apps'], resources: ['*/scale'] }], kind('deployments', 'apps'), 'scale').get('get')).toBe(true);
});

test('names make it some', () => {
  const named = { verbs: ['get'], apiGroups: [''], resources: ['secrets'], resourceNames: ['a'] };
  expect(allowed([named], kind('secrets')).get('get')).toBe(false);
  expect(allowed([named, { verbs: ['get'], apiGroups: [''], resources: ['secrets'] }], kind('secrets')).get('get')).toBe(true);
});

const policy = {
  clusterRoles: [role('view', [{ verbs: ['get', 'list'], apiGroups: [''], resources: ['pods', 'nodes'] }])],
  roles: [role('edit', [{ verbs: ['delete'], apiGroups: [''], resources: ['pods'] }], 'a')],
  bindings: [bind('Role edit', { kind: 'ServiceAccount', name: 'robot' }, 'a'), bind('ClusterRole view', { kind: 'User', name: 'ann' }, 'a'), bind('Role gone', { kind: 'User', name: 'x' }, 'a')],
  clusterBindings: [bind('ClusterRole view', { kind: 'Group', name: 'ops' })],
};
const table = (plural: string, namespace: string, namespaced = true): string[] => matrix(policy, kind(plural, '', namespaced), namespace).map((one) => `${one.subject}: ${[...one.verbs.keys()].join(',')}`);

test('bindings of the namespace and of the cluster', () => {
  expect(table('pods', 'a')).toEqual(['Group ops: get,list', 'ServiceAccount a/robot: delete', 'User ann: get,list']);
  expect(table('pods', 'b')).toEqual(['Group ops: get,list']);
  expect(table('pods', '')).toEqual(['Group ops: get,list']);
});

test('a RoleBinding grants nothing outside namespaces', () => expect(table('nodes', 'a', false)).toEqual(['Group ops: get,list']));
