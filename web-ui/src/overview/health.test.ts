import { expect, test } from 'vitest';
import type { Obj } from '../api/types';
import { health } from './health';

const deployment = (available: number): Obj => ({ kind: 'Deployment', metadata: { name: 'x', generation: 1 }, spec: { replicas: 2 }, status: { observedGeneration: 1, replicas: 2, updatedReplicas: 2, availableReplicas: available } });
const job = (failed: boolean): Obj => ({ kind: 'Job', metadata: { name: 'x' }, status: { conditions: [{ type: 'Failed', status: failed ? 'True' : 'False' }] } });

test('each kind is counted, with what is as it should be', () => {
  expect(health([deployment(2), deployment(1), deployment(2), job(true), job(false), { kind: 'Job', metadata: { name: 'new' } }])).toEqual([
    { kind: 'Deployment', well: 2, all: 3 },
    { kind: 'Job', well: 2, all: 3 },
  ]);
  expect(health([])).toEqual([]);
});
