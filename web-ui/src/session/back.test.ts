import { expect, test } from 'vitest';
import { comesBack, renewIn } from './back';

test('who comes back from an issuer brings a code', () => {
  expect(comesBack('')).toBeNull();
  expect(comesBack('?code=c')).toBeNull();
  expect(comesBack('?code=c&state=s')).toEqual({ code: 'c', state: 's' });
  expect(comesBack('?code=c%2Fd&state=s&iss=https%3A%2F%2Fi')).toEqual({ code: 'c/d', state: 's', iss: 'https://i' });
});

test('or why there is none', () => {
  expect(comesBack('?error=access_denied&state=s')?.failed).toBe('The issuer has not signed you in: access_denied');
  expect(comesBack('?error=access_denied&error_description=Not+today&state=s')?.failed).toContain('Not today');
});

test('sessions are renewed before they end', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  expect(renewIn('2026-01-01T01:00:00Z', now)).toBe(54 * 60_000);
  expect(renewIn('2026-01-01T00:00:05Z', now)).toBe(10_000);
  expect(renewIn('2025-01-01T00:00:00Z', now)).toBe(10_000);
  expect(renewIn('2036-01-01T00:00:00Z', now)).toBe(2 ** 31 - 1);
  expect(renewIn(undefined, now)).toBeNull();
  expect(renewIn('never', now)).toBeNull();
});
