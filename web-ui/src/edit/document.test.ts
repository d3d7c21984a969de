import { expect, test } from 'vitest';
import { conflicts, editable, fromYaml, mergePatch, toYaml } from './document';

test('what the server keeps is not edited', () => {
  const object = { spec: { a: 1 }, status: { b: 2 }, metadata: { name: 'x', uid: 'u', managedFields: [], resourceVersion: '1' }, kind: 'K', apiVersion: 'v1' };
  expect(toYaml(editable(object))).toBe('apiVersion: v1\nkind: K\nmetadata:\n  name: x\nspec:\n  a: 1\n');
  expect(Object.keys(editable(object, true))).toContain('status');
  expect(object.metadata.uid).toBe('u');
});

test.each([
  [{ a: 1 }, { a: 1 }, undefined],
  [{ a: 1, b: 2 }, { a: 1 }, { b: null }],
  [{ a: { b: 1, c: 2 } }, { a: { b: 1, c: 3 } }, { a: { c: 3 } }],
  [{ a: [1, 2] }, { a: [1] }, { a: [1] }],
  [{ a: [{ x: 1 }] }, { a: [{ x: 1 }] }, undefined],
  [{}, { a: { b: {} } }, { a: { b: {} } }],
  [{ a: { b: 1 } }, { a: 'text' }, { a: 'text' }],
])('from %j to %j', (before, after, patch) => expect(mergePatch(before, after)).toEqual(patch));

test.each([['a: [', 'not YAML'], ['- 1', 'An object is wanted'], ['kind: Pod', 'no metadata'], ['', 'An object is wanted']])('%j is refused', (text, why) => expect(() => fromYaml(text)).toThrow(why));

test('text is written and read again', () => {
  const value = { metadata: { name: 'x' }, data: { script: 'a\nb\n', yes: 'true', n: '012', odd: ': #' } };
  expect(fromYaml(toYaml(value))).toEqual(value);
});

test('a bomb of anchors is refused', () => {
  const bomb = 'a: &a [x,x,x,x,x,x,x,x,x]\n' + 'bcdefgh'.split('').map((letter, i) => `${letter}: &${letter} [${`*${'abcdefg'[i]},`.repeat(9)}]\n`).join('') + 'metadata: *h\n';
  expect(() => fromYaml(bomb)).toThrow();
});

test('conflicts name the owner of each field', () => {
  const status = { details: { causes: [{ reason: 'FieldManagerConflict', message: 'conflict with "helm" using apps/v1', field: '.spec.replicas' }, { reason: 'Other', message: 'x' }] } };
  expect(conflicts(status)).toEqual([{ field: '.spec.replicas', manager: 'helm' }]);
});
