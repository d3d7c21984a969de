import { expect, test } from 'vitest';
import type { Obj, Tree } from '../api/types';
import { touched } from './owners';

const fieldsV1 = {
  'f:metadata': { 'f:finalizers': { 'v:"keep"': {} }, 'f:labels': { '.': {}, 'f:team': {} } },
  'f:spec': { 'f:replicas': {}, 'f:containers': { 'k:{"name":"web"}': { '.': {}, 'f:image': {}, 'f:args': {} } } },
};
const object = (change: (object: Tree) => void = () => {}, entry: Tree = {}): Obj => {
  const made = {
    metadata: { name: 'x', labels: { team: 'red', other: 'a' }, finalizers: ['keep'], managedFields: [{ manager: 'gardener', operation: 'Apply', fieldsV1, ...entry }] },
    spec: { replicas: 1, paused: false, containers: [{ name: 'side', image: 's:1' }, { name: 'web', image: 'w:1', args: ['a'] }] },
  };
  change(made);
  return made;
};
const fields = (change: (object: Tree) => void, entry: Tree = {}): string[] => touched(object(() => {}, entry), object(change)).map(({ field, manager }) => `${manager} ${field}`);

test.each<[string, (object: Tree) => void, string[]]>([
  ['a field of another', (one) => (one.spec.replicas = 2), ['gardener .spec.replicas']],
  ['a field that is taken away', (one) => delete one.metadata.labels.team, ['gardener .metadata.labels.team']],
  ['a field of an item of a list, wherever the item stands', (one) => (one.spec.containers = [{ name: 'web', image: 'w:2', args: ['a'] }]), ['gardener .spec.containers[name="web"].image']],
  ['a member of a set', (one) => (one.metadata.finalizers = []), ['gardener .metadata.finalizers[="keep"]']],
  ['the whole item', (one) => one.spec.containers.pop(), ['gardener .spec.containers[name="web"].image', 'gardener .spec.containers[name="web"].args']],
  ['what nobody applies', (one) => ((one.spec.paused = true), (one.spec.containers[0].image = 's:2')), []],
  ['nothing', () => {}, []],
])('a change of %s', (_, change, expected) => expect(fields(change)).toEqual(expected));

test('who only updates, and oneself, sets nothing back; who scales does', () => {
  const change = (one: Tree): number => (one.spec.replicas = 2);
  expect(fields(change, { operation: 'Update' })).toEqual([]);
  expect(fields(change, { manager: 'wherry-ui' })).toEqual([]);
  expect(fields(change, { operation: 'Update', subresource: 'scale', manager: 'autoscaler' })).toEqual(['autoscaler .spec.replicas']);
  expect(touched({ metadata: { name: 'x', managedFields: [{ manager: 'odd', operation: 'Apply', fieldsV1: { 'k:{': {}, 'q:x': {} } }] } }, object())).toEqual([]);
});
