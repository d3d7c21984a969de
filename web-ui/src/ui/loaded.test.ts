import { expect, test } from 'vitest';
import { addressOf, loaded } from './loaded';

const ORIGIN = 'https://here.example';
const failure = new TypeError(`Failed to fetch dynamically imported module: ${ORIGIN}/ui/assets/Graph-1.js`);

test('what loads is loaded once', async () => expect(await loaded(async () => 1, 0, ORIGIN)).toBe(1));

test('what a browser remembers as absent is asked for under another name, not at once', async () => {
  const asked: string[] = [];
  const fetch = async (url: string): Promise<unknown> => asked.push(url);
  const fails = (): Promise<unknown> => Promise.reject(failure);
  await expect(loaded(fails, 0, ORIGIN, fetch)).rejects.toBe(failure);
  await loaded(fails, 2, ORIGIN, fetch);
  expect(asked).toEqual([`${ORIGIN}/ui/assets/Graph-1.js?again=2`]);
});

test('nothing is loaded from elsewhere', () => {
  expect(addressOf(failure, 'https://other.example')).toBeNull();
  expect(addressOf(new Error('https://here.example.evil/x.js'), ORIGIN)).toBeNull();
  expect(addressOf('text', ORIGIN)).toBeNull();
});
