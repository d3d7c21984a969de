// What a first visit loads, by the build itself.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';

const MOST = 350_000;

test('the first load is small, and has no script within the page', () => {
  const dist = new URL('../dist/', import.meta.url);
  const page = readFileSync(new URL('index.html', dist), 'utf8');
  const files = [...page.matchAll(/(?:src|href)="\.\/([^"]+\.(?:js|css|svg))"/g)].map((found) => found[1]!);
  const size = [page, ...files.map((file) => readFileSync(new URL(file, dist)))].reduce((sum, bytes) => sum + gzipSync(bytes).length, 0);
  console.log(`first load: ${Math.round(size / 1000)} kB gzipped in ${files.length + 1} files`);
  expect(files.length).toBeGreaterThan(1);
  expect(size).toBeLessThan(MOST);
  expect(page).not.toMatch(/<script(?![^>]*\bsrc=)/);
  expect(page).not.toMatch(/https?:\/\//);
});
