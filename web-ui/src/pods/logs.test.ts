import { expect, test } from 'vitest';
import { asText, Buffer, marked, plain, search, split } from './logs';

test.each([
  ['\u001b[31mred\u001b[0m', 'red'],
  ['\u001b]0;title\u0007text', 'text'],
  ['\u001b]8;;https://x\u001b\\link\u001b]8;;\u001b\\', 'link'],
  ['a\u0000b\u0007c\rd', 'abcd'],
  ['\u001bcreset', 'reset'],
  ['abc\u202egnp.exe', 'abcgnp.exe'],
  ['<script>alert(1)</script>', '<script>alert(1)</script>'],
  ['tab\tstays', 'tab\tstays'],
])('%j is %j', (raw, text) => expect(plain(raw)).toBe(text));

test('times are cut off', () => {
  expect(split('2026-01-01T00:00:00.123Z hello world')).toEqual({ time: '2026-01-01T00:00:00.123Z', text: 'hello world' });
  expect(split('no time')).toEqual({ time: '', text: 'no time' });
});

test('a stream that begins anew brings nothing twice', () => {
  const buffer = new Buffer();
  for (const line of ['2026-01-01T00:00:01Z a', '2026-01-01T00:00:02.5Z b', '2026-01-01T00:00:01Z a', '2026-01-01T00:00:02.500Z b', '2026-01-01T00:00:02.51Z c']) buffer.add('p/c', line);
  expect(buffer.lines.map((line) => line.text)).toEqual(['a', 'b', 'c']);
  buffer.add('other/c', '2026-01-01T00:00:00Z z');
  expect(buffer.lines.at(-1)!.text).toBe('z');
});

test('only so much is kept, and ids stay', () => {
  const buffer = new Buffer(100);
  for (let i = 0; i < 1000; i++) buffer.add('p/c', `line ${i}`);
  expect(buffer.lines.length).toBeLessThanOrEqual(110);
  expect(buffer.lines.at(-1)).toMatchObject({ id: 999, text: 'line 999' });
});

test('search and file', () => {
  const buffer = new Buffer();
  buffer.add('p/c', '2026-01-01T00:00:01Z Error: no');
  buffer.add('p/c', 'fine');
  expect(search(buffer.lines, 'error')).toHaveLength(1);
  expect(asText(buffer.lines, true)).toBe('[p/c] 2026-01-01T00:00:01Z Error: no\n[p/c] fine\n');
});

test.each([
  ['one Error, two errors', 'error', ['one ', 'Error', ', two ', 'error', 's']],
  ['nothing', 'x', ['nothing']],
  ['aaa', 'aa', ['', 'aa', 'a']],
  ['as it is', '', ['as it is']],
  ['İstanbul', 'i', ['İstanbul']],
])('%s has %s marked', (text, typed, parts) => expect(marked(text, typed)).toEqual(parts));
