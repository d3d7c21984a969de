import { expect, test } from 'vitest';
import type { Obj } from '../api/types';
import { requests, use } from './use';

const pod = (cpu: string, phase = 'Running', init?: string): Obj => ({
  metadata: { name: 'p' },
  spec: { containers: [{ resources: { requests: { cpu } } }], ...(init ? { initContainers: [{ resources: { requests: { cpu: init } } }] } : {}) },
  status: { phase },
});

test('an init container may ask for more than the others', () => {
  expect(requests(pod('100m'), 'cpu')).toBeCloseTo(0.1);
  expect(requests(pod('100m', 'Running', '2'), 'cpu')).toBe(2);
});

test('pods that have ended take nothing', () => {
  const node: Obj = { metadata: { name: 'n' }, status: { allocatable: { cpu: '2', memory: '1Gi', pods: '110' } } };
  const [cpu, memory, pods] = use(node, [pod('500m'), pod('500m', 'Succeeded')]);
  expect([cpu!.words, memory!.words, pods!.words]).toEqual(['500m of 2', '0 B of 1 GiB', '1 of 110']);
});
