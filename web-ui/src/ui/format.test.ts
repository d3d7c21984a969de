import { expect, test } from 'vitest';
import { bytes, cores, quantity } from './quantity';
import { age, duration } from './time';

test.each([
  [0, '0s'], [119, '119s'], [120, '2m'], [185, '3m5s'], [900, '15m'], [3 * 3600 + 120, '3h2m'], [10 * 3600, '10h'],
  [3 * 86400 + 3600, '3d1h'], [40 * 86400, '40d'], [3 * 365 * 86400, '3y'],
])('%d seconds are %s', (seconds, text) => expect(duration(seconds)).toBe(text));

test('clocks that differ make no negative ages', () => {
  expect(age('2026-01-01T00:00:10Z', Date.parse('2026-01-01T00:00:00Z'))).toBe('0s');
  expect(age('nonsense', 0)).toBe('');
});

test.each([
  ['100m', 0.1], ['2', 2], ['1Gi', 2 ** 30], ['500k', 500_000], ['1e3', 1000], ['1.5Mi', 1.5 * 2 ** 20], ['', 0], ['x', 0],
])('the quantity %s', (text, value) => expect(quantity(text)).toBeCloseTo(value));

test('numbers are short', () => {
  expect([cores(0), cores(0.25), cores(2.5), bytes(0), bytes(1536), bytes(2 ** 30)]).toEqual(['0', '250m', '2.5', '0 B', '1.5 KiB', '1 GiB']);
});
