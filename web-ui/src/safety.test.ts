// What keeps hostile objects inert: nothing in the sources makes markup or code of text.
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const MAKES_MARKUP = /\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:/;

test('no text becomes markup', () => {
  const root = new URL('.', import.meta.url).pathname;
  const sources = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => /\.(svelte|ts)$/.test(name) && !name.endsWith('.test.ts'));
  expect(sources.length).toBeGreaterThan(40);
  expect(sources.filter((name) => MAKES_MARKUP.test(readFileSync(`${root}${name}`, 'utf8')))).toEqual([]);
});
