import { expect, test } from 'vitest';
import { firstNamespace, format, hasNamespace, linkTo, linkToKind, parse } from './route';

test.each([
  ['', { path: [], query: {} }],
  ['#/', { path: [], query: {} }],
  ['#/k/apps/deployments/default/web?tab=yaml', { path: ['k', 'apps', 'deployments', 'default', 'web'], query: { tab: 'yaml' } }],
  ['#/k/core/nodes/-/a%2Fb', { path: ['k', 'core', 'nodes', '-', 'a/b'], query: {} }],
  ['#/k/%zz', { path: ['k', '%zz'], query: {} }],
])('reads %s', (hash, expected) => expect(parse(hash)).toEqual(expected));

test('what is written is read again', () => {
  const routes = [linkToKind('', 'pods', { q: 'a b&c=1', l: 'app in (a,b)' }), linkTo('apps', 'deployments', 'x', 'y/../z?#')];
  for (const hash of routes) expect(format(parse(hash))).toBe(hash);
  expect(parse(routes[1]!).path[4]).toBe('y/../z?#');
});

test('views of a namespace say which', () => {
  const named = ['#/', '#/access', '#/k/core/pods', '#/k/core/nodes', '#/k/core/pods/default/web', '#/deploy', '#/new/core/pods'].filter((hash) => hasNamespace(parse(hash), (_, plural) => plural === 'pods'));
  expect(named).toEqual(['#/', '#/access', '#/k/core/pods']);
});

test.each([
  ['', 'mine'], ['#/', 'mine'], ['#/?ns=a', 'a'], ['#/k/core/pods', ''], ['#/k/core/pods?ns=a', 'a'],
])('the page begins at %s in the namespace %s', (hash, expected) => expect(firstNamespace(parse(hash), 'mine')).toBe(expected));
