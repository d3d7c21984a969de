import { expect, test } from 'vitest';
import { best, score, type Entry } from './rank';

const entry = (text: string, also = ''): Entry => ({ text, also, hint: '' });

test('exact before start before inside before scattered', () => {
  const points = ['web', 'website', 'my-web', 'cobweb', 'w-e-b', 'db'].map((text) => score('web', text));
  expect([...points].sort((a, b) => b - a)).toEqual(points);
  expect(points.at(-1)).toBe(0);
});

test('short names find kinds', () => {
  const found = best('po', [entry('Deployments', 'deploy'), entry('Pods', 'po pod'), entry('Endpoints', 'ep')], 2);
  expect(found[0]!.text).toBe('Pods');
});

test('what does not fit is left out, and there is a most', () => {
  expect(best('zzz', [entry('Pods')], 5)).toEqual([]);
  expect(best('', [entry('a'), entry('b'), entry('c')], 2)).toHaveLength(2);
});
