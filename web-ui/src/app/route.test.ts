import { expect, test } from 'vitest';
import { format, linkTo, linkToKind, parse } from './route';

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
