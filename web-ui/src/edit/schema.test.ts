import { describe, expect, test } from 'vitest';
import { check, choices, context, Schemas } from './schema';

const schemas = new Schemas({
  components: {
    schemas: {
      Widget: {
        type: 'object',
        'x-kubernetes-group-version-kind': [{ group: 'x.y', version: 'v1', kind: 'Widget' }],
        required: ['spec'],
        properties: { kind: { type: 'string' }, metadata: { $ref: '#/components/schemas/Meta' }, spec: { allOf: [{ $ref: '#/components/schemas/Spec' }], default: {} } },
      },
      Meta: { type: 'object', properties: { name: { type: 'string' }, labels: { type: 'object', additionalProperties: { type: 'string' } } } },
      Spec: {
        type: 'object',
        required: ['parts'],
        properties: {
          size: { type: 'integer', description: 'How large.' },
          mode: { type: 'string', enum: ['fast', 'slow'] },
          on: { type: 'boolean' },
          port: { 'x-kubernetes-int-or-string': true },
          parts: { type: 'array', items: { type: 'object', required: ['name'], properties: { name: { type: 'string' }, image: { type: 'string' }, env: { type: 'array', items: { type: 'object', properties: { key: { type: 'string' } } } } } } },
          free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        },
      },
    },
  },
});
const widget = schemas.of('x.y', 'v1', 'Widget');
const said = (text: string): string[] => check(text, widget, schemas).map((complaint) => `${text.slice(complaint.from, complaint.to)}| ${complaint.message}`);

describe('what is wrong', () => {
  test('nothing', () => expect(said('kind: Widget\nmetadata:\n  name: a\n  labels:\n    any: thing\nspec:\n  size: 3\n  port: http\n  free:\n    x: 1\n  parts:\n  - name: a\n')).toEqual([]));
  test('an unknown field, at its place', () => expect(said('spec:\n  parts: []\n  sise: 3\n')).toEqual(['sise| There is no field sise here.']));
  test('the wrong type', () => expect(said('spec:\n  parts: []\n  size: big\n')).toEqual(['big| spec.size wants a whole number.']));
  test('a list where text is wanted', () => expect(said('metadata:\n  name: [a]\nspec:\n  parts: []\n')).toEqual(['[a]| metadata.name wants text.']));
  test('none of the choices', () => expect(said('spec:\n  parts: []\n  mode: quick\n')).toEqual(['quick| spec.mode is one of fast, slow.']));
  test('what is needed', () => expect(said('spec:\n  size: 1\n')[0]).toContain('spec needs parts.'));
  test('inside lists', () => expect(said('spec:\n  parts:\n  - name: a\n    imag: b\n')).toEqual(['imag| There is no field imag here.']));
  test('no YAML', () => expect(check('a: [', widget, schemas)[0]!.severity).toBe('error'));
  test('no schema is no complaint', () => expect(check('anything: goes', undefined, schemas)).toEqual([]));
});

describe('where the cursor is', () => {
  const at = (text: string): unknown => context(text, text.length);
  test.each([
    ['', { path: [], value: null }],
    ['spec:\n  ', { path: ['spec'], value: null }],
    ['spec:\n  mode: f', { path: ['spec'], value: 'mode' }],
    ['spec:\n  parts:\n  - na', { path: ['spec', 'parts', 0], value: null }],
    ['spec:\n  parts:\n  - name: a\n    im', { path: ['spec', 'parts', 0], value: null }],
    ['spec:\n  parts:\n    - name: a\n      env:\n        - k', { path: ['spec', 'parts', 0, 'env', 0], value: null }],
    ['spec:\n  parts:\n  - name: a\n    env:\n    - key: x\nmeta', { path: [], value: null }],
    ['metadata:\n  labels:\n    a: b\nspec:\n  si', { path: ['spec'], value: null }],
  ])('%j', (text, expected) => expect(at(text)).toEqual(expected));
});

describe('what may come', () => {
  const labels = (text: string): string[] => choices(text, text.length, widget, schemas).map((choice) => choice.label);
  test('fields', () => expect(labels('spec:\n  ')).toEqual(['size', 'mode', 'on', 'port', 'parts', 'free']));
  test('fields of a list item', () => expect(labels('spec:\n  parts:\n  - name: a\n    ')).toEqual(['name', 'image', 'env']));
  test('values', () => expect(labels('spec:\n  mode: ')).toEqual(['fast', 'slow']));
  test('true or false', () => expect(labels('spec:\n  on: ')).toEqual(['true', 'false']));
  test('nowhere', () => expect(labels('nothing:\n  ')).toEqual([]));
  test('with what they mean', () => expect(choices('spec:\n  ', 8, widget, schemas)[0]).toMatchObject({ detail: 'integer', info: 'How large.', text: 'size: ' }));
});
