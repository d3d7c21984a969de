import { expect, test } from 'vitest';
import type { Obj, Tree } from '../api/types';
import { jobFrom, jobsOf, jobState, took } from './jobs';

const job = (status: Tree, spec: Tree = {}): Obj => ({ kind: 'Job', metadata: { name: 'j', namespace: 'a' }, spec, status });
const ended = (type: string): Tree => ({ conditions: [{ type, status: 'True', lastTransitionTime: '2026-01-01T00:01:00Z' }] });

test.each([
  ['Pending', 0, '0 of 1 done.', job({})],
  ['Running', 0.25, '1 of 4 done, 2 run, 1 failed.', job({ succeeded: 1, active: 2, failed: 1 }, { completions: 4 })],
  ['Complete', 1, '2 of 2 done.', job({ succeeded: 2, ...ended('Complete') }, { completions: 2 })],
  ['Failed', 0, '0 of 1 done, 7 failed.', job({ failed: 7, ...ended('Failed') })],
  ['Suspended', 0, '0 of 1 done.', job({}, { suspend: true })],
])('%s', (text, done, words, object) => expect(jobState(object)).toEqual({ text, done, words }));

test('how long it took', () => {
  const now = Date.parse('2026-01-01T00:10:00Z');
  const startTime = '2026-01-01T00:00:00Z';
  expect(took(job({ startTime, completionTime: '2026-01-01T00:02:00Z' }), now)).toBe(120);
  expect(took(job({ startTime, ...ended('Failed') }), now)).toBe(60);
  expect(took(job({ startTime }), now)).toBe(600);
  expect(took(job({}), now)).toBeNull();
});

test('a run out of turn is one of the schedule', () => {
  const cron: Obj = {
    kind: 'CronJob', metadata: { name: 'c'.repeat(60), namespace: 'a', uid: 'u' },
    spec: { schedule: '* * * * *', jobTemplate: { metadata: { labels: { x: 'y' } }, spec: { backoffLimit: 1, template: {} } } },
  };
  const made = jobFrom(cron, 'abc12');
  expect(made.metadata.name).toMatch(/^c+-manual-abc12$/);
  expect(made.metadata.name.length).toBeLessThanOrEqual(63);
  expect(made).toMatchObject({ metadata: { labels: { x: 'y' }, annotations: { 'cronjob.kubernetes.io/instantiate': 'manual' } }, spec: { backoffLimit: 1 } });
  const [older, newer] = ['2026-01-01T00:00:00Z', '2026-01-01T00:01:00Z'].map((creationTimestamp) => ({ ...job({}), metadata: { ...made.metadata, creationTimestamp } }) as Obj);
  expect(jobsOf(cron, [older!, job({}), newer!])).toEqual([newer, older]);
});
