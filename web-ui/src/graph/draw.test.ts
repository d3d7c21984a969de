import { expect, test } from 'vitest';
import { curve, draw, HEIGHT, WIDTH } from './draw';
import type { Graph, Thing } from './relate';

const thing = (id: string): Thing => ({ id, kind: 'Pod', group: '', namespace: 'a', name: id });
const graph = (names: string, edges: string[]): Graph => ({ things: [...names].map(thing), edges: edges.map(([from, to]) => ({ from: from!, to: to!, how: 'owns' })), more: 0 });

test('everything is within the picture, edges that pass around boxes too', () => {
  // Long edges beside many boxes run outside of them.
  const picture = draw(graph('abcdefghij', ['ab', 'ac', 'ad', 'be', 'ce', 'de', 'ae', 'ef', 'af', 'ag', 'gf', 'ah', 'hi', 'ij', 'aj', 'bj']));
  for (const { x, y } of picture.nodes) {
    expect(x - WIDTH / 2).toBeGreaterThanOrEqual(0);
    expect(y - HEIGHT / 2).toBeGreaterThanOrEqual(0);
    expect(x + WIDTH / 2).toBeLessThanOrEqual(picture.width);
    expect(y + HEIGHT / 2).toBeLessThanOrEqual(picture.height);
  }
  for (const { path } of picture.edges) {
    const numbers = [...path.matchAll(/-?[0-9.]+/g)].map(([digits]) => Number(digits));
    expect(numbers.length).toBeGreaterThan(2);
    numbers.forEach((number, index) => {
      expect(number).toBeGreaterThanOrEqual(0);
      expect(number).toBeLessThanOrEqual(index % 2 === 0 ? picture.width : picture.height);
    });
  }
});

test('one alone, none, and a circle', () => {
  expect(draw(graph('a', [])).width).toBe(WIDTH + 16);
  expect(draw(graph('', [])).nodes).toEqual([]);
  expect(draw(graph('ab', ['ab', 'ba'])).edges).toHaveLength(2);
});

test('a curve leaves and comes in levelly', () => expect(curve([{ x: 0, y: 0 }, { x: 10, y: 5 }])).toBe('M0 0C5 0 5 5 10 5'));
