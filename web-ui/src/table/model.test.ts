import { describe, expect, test } from 'vitest';
import type { Column, Row } from '../api/types';
import { arrange, columnsOf, matcher, orderOf, text, turned } from './model';

const COLUMNS: Column[] = [
  { name: 'Name', type: 'string', priority: 0 },
  { name: 'Restarts', type: 'integer', priority: 0 },
  { name: 'Age', type: 'string', priority: 0 },
  { name: 'Node', type: 'string', priority: 1 },
];

function row(name: string, restarts: unknown, created = '2026-01-01T00:00:00Z', labels: Record<string, string> = {}): Row {
  return { cells: [name, restarts, 'old text', 'n1'], object: { metadata: { name, namespace: 'a', creationTimestamp: created, labels } } };
}

const names = (rows: Row[]): string[] => rows.map((r) => r.object.metadata.name);

describe('columns', () => {
  test('the namespace is shown where there are several', () => {
    expect(columnsOf(COLUMNS, true).map((c) => c.name)).toEqual(['Namespace', 'Name', 'Restarts', 'Age', 'Node']);
    expect(columnsOf(COLUMNS, false).filter((c) => c.usual).map((c) => c.name)).toEqual(['Name', 'Restarts', 'Age']);
  });

  test('ages are of now, not of when the row was printed', () => {
    const age = columnsOf(COLUMNS, false)[2]!;
    expect(text(row('x', 0), age, Date.parse('2026-01-01T01:00:00Z'))).toBe('60m');
  });
});

describe('filter', () => {
  test.each([
    ['web', 'pod web-1 running', true], ['web run', 'web running', true], ['!web', 'web', false], ['!web', 'db', true],
    ['web|db', 'db', true], ['WEB', 'web', true], ['', 'anything', true], ['!', 'a!', true],
  ])('%s in %s', (filter, haystack, expected) => expect(matcher(filter)(haystack)).toBe(expected));

  test('labels are found', () => {
    const rows = [row('a', 0, undefined, { app: 'shop' }), row('b', 0)];
    expect(names(arrange(rows, columnsOf(COLUMNS, false), 'app=shop', null))).toEqual(['a']);
  });
});

describe('order', () => {
  const rows = [row('web-10', 2, '2026-01-03T00:00:00Z'), row('web-9', 10, '2026-01-01T00:00:00Z'), row('web-1', 2, '2026-01-02T00:00:00Z')];
  const by = (order: string): string[] => names(arrange(rows, columnsOf(COLUMNS, false), '', orderOf(order)));

  test('numbers in names count as numbers', () => expect(by('Name')).toEqual(['web-1', 'web-9', 'web-10']));
  test('numbers are numbers, equal ones by name', () => expect(by('-Restarts')).toEqual(['web-9', 'web-1', 'web-10']));
  test('the youngest comes first by age', () => expect(by('Age')).toEqual(['web-10', 'web-1', 'web-9']));
  test('an unknown column changes nothing', () => expect(by('Nope')).toEqual(['web-1', 'web-10', 'web-9']));
  test('heads turn through up, down and none', () => {
    expect([turned(null, 'Age'), turned(orderOf('Age'), 'Age'), turned(orderOf('-Age'), 'Age')]).toEqual(['Age', '-Age', '']);
  });
});
