import { expect, test } from 'vitest';
import type { Obj, Tree } from '../api/types';
import { because } from './because';
import { bad, wait } from './explain';

const NOW = Date.parse('2026-01-01T00:10:00Z');
const pod = (name: string, state: Tree, ready = false): Obj => ({
  kind: 'Pod', metadata: { name, uid: name, namespace: 'x' }, spec: { nodeName: 'n', containers: [{ name: 'main', image: 'i' }] },
  status: { phase: 'Running', containerStatuses: [{ name: 'main', image: 'i', ready, restartCount: 0, state }] },
});
const running = { running: { startedAt: '2026-01-01T00:00:00Z' } };
const ended = { terminated: { exitCode: 3 } };
const unhealthy: Obj = { metadata: { name: 'e' }, reason: 'Unhealthy', message: 'Readiness probe failed: HTTP probe failed with statuscode: 500', involvedObject: { uid: 'b' } };
const waiting = wait('1 of 3 pods are ready.', 'See why its pods are not.');

test('the reason of its pods is a workload\'s', () => {
  expect(because(waiting, [pod('a', running, true), pod('b', running)], [unhealthy], NOW)).toEqual({
    tone: 'bad', what: '1 of 3 pods are ready. b: Container main runs, but its readiness probe fails: it answers 500.', next: expect.stringContaining('read its logs'),
  });
  expect(because(waiting, [pod('b', running), pod('c', ended)], [], NOW)?.what).toBe('1 of 3 pods are ready. c: Container main ended with exit code 3.');
});

test('where they give none, or it is told already, it stays as it is', () => {
  expect(because(waiting, [pod('a', running, true)], [unhealthy], NOW)).toBe(waiting);
  const quota = bad('The quota q is used up.', 'Raise it.');
  expect(because(quota, [pod('c', ended)], [], NOW)).toBe(quota);
  expect(because(null, [pod('c', ended)], [], NOW)).toBeNull();
});
