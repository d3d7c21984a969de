import { expect, test } from 'vitest';
import { ApiError } from '../api/client';
import type { Obj, Tree } from '../api/types';
import { blocked, plan } from './drain';

const pod = (name: string, owner?: string, more: Tree = {}): Obj => ({
  metadata: { name, ...(owner ? { ownerReferences: [{ apiVersion: 'apps/v1', kind: owner, name: 'o', uid: 'u', controller: true }] } : {}), ...more.metadata },
  spec: more.spec ?? {},
  status: { phase: 'Running', ...more.status },
});

test('what goes, what stays, and what is lost', () => {
  const found = plan([
    pod('web', 'ReplicaSet'),
    pod('agent', 'DaemonSet'),
    pod('static', 'Node', { metadata: { annotations: { 'kubernetes.io/config.mirror': 'x' } } }),
    pod('bare'),
    pod('done', undefined, { status: { phase: 'Succeeded' } }),
    pod('scratch', 'StatefulSet', { spec: { volumes: [{ name: 'x', emptyDir: {} }] } }),
  ]);
  expect(found.evict.map((one) => one.metadata.name)).toEqual(['web', 'bare', 'done', 'scratch']);
  expect(found.stay.map((one) => one.pod.metadata.name)).toEqual(['agent', 'static']);
  expect(found.warnings).toEqual(['bare is owned by nothing: nobody makes it anew.', 'scratch loses what is in its emptyDir.']);
});

test('the budget that blocks', () => {
  const cause = { reason: 'DisruptionBudget', message: 'The disruption budget web needs 2 healthy pods and has 2 currently' };
  const refusal = new ApiError(429, 'Cannot evict pod.', 'TooManyRequests', { kind: 'Status', details: { causes: [cause] } });
  expect(blocked(refusal)).toBe(cause.message);
  expect(blocked(new ApiError(429, 'Too many requests.'))).toBe('Too many requests.');
  expect(blocked(new ApiError(403, 'no'))).toBeNull();
  expect(blocked(new Error('x'))).toBeNull();
});
