import { expect, test } from 'vitest';
import { bars } from './resources';

test.each([
  ['nothing is known', {}, undefined, []],
  ['used alone', {}, { cpu: '12m', memory: '8Mi' }, ['CPU: 12m used, no limit', 'Memory: 8 MiB used, no limit']],
  ['not measured', { requests: { cpu: '10m' }, limits: { memory: '64Mi' } }, undefined, ['CPU: 10m requested, no limit', 'Memory: limit 64 MiB']],
  ['all', { requests: { memory: '4Mi' }, limits: { memory: '64Mi' } }, { memory: '60Mi', cpu: '0' }, ['CPU: 0 used, no limit', 'Memory: 60 MiB used, 4 MiB requested, limit 64 MiB!']],
  ['more than requested', { requests: { cpu: '10m' } }, { cpu: '20m' }, ['CPU: 20m used, 10m requested, no limit!']],
  ['others', { limits: { 'acme.io/gpu': '2' }, requests: { 'acme.io/gpu': '2' } }, undefined, ['acme.io/gpu: 2 requested, limit 2']],
])('%s', (_, resources, usage, expected) => expect(bars(resources, usage).map(({ name, words, high }) => `${name}: ${words}${high ? '!' : ''}`)).toEqual(expected));

test('a bar is of the limit, or else of the request', () => {
  const [cpu, memory] = bars({ requests: { cpu: '100m', memory: '1Mi' }, limits: { memory: '4Mi' } }, { cpu: '50m', memory: '1Mi' });
  expect([cpu!.used! / cpu!.most, memory!.used! / memory!.most]).toEqual([0.5, 0.25]);
});
