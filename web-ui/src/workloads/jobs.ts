// Jobs and what makes them: how far one is, and a run out of turn. Pure.
import type { Condition, Obj, Tree } from '../api/types';

export interface JobState {
  text: 'Complete' | 'Failed' | 'Suspended' | 'Running' | 'Pending';
  /** 0 to 1. */
  done: number;
  words: string;
}

const is = (job: Obj, type: string): boolean => (job.status?.conditions as Condition[] | undefined)?.some((one) => one.type === type && one.status === 'True') ?? false;

export function jobState(job: Obj): JobState {
  const { spec = {}, status = {} } = job;
  const succeeded: number = status.succeeded ?? 0;
  const failed: number = status.failed ?? 0;
  const active: number = status.active ?? 0;
  // Without completions one success of any pod is enough.
  const wanted: number = spec.completions ?? 1;
  const parts = [`${succeeded} of ${wanted} done`, ...(active > 0 ? [`${active} run${active === 1 ? 's' : ''}`] : []), ...(failed > 0 ? [`${failed} failed`] : [])];
  const words = `${parts.join(', ')}.`;
  const done = wanted === 0 ? 1 : Math.min(1, succeeded / wanted);
  if (is(job, 'Complete') || is(job, 'SuccessCriteriaMet')) return { text: 'Complete', done: 1, words };
  if (is(job, 'Failed') || is(job, 'FailureTarget')) return { text: 'Failed', done, words };
  if (spec.suspend) return { text: 'Suspended', done, words };
  return { text: active > 0 ? 'Running' : 'Pending', done, words };
}

/** How many seconds a job ran, or has been running. */
export function took(job: Obj, now: number): number | null {
  const from = Date.parse(job.status?.startTime ?? '');
  const ended = job.status?.completionTime ?? (job.status?.conditions as Condition[] | undefined)?.find((one) => one.type === 'Failed' && one.status === 'True')?.lastTransitionTime;
  const to = ended ? Date.parse(ended) : now;
  return Number.isFinite(from) ? Math.max(0, Math.floor((to - from) / 1000)) : null;
}

/** The jobs of a CronJob, the newest first. */
export function jobsOf(cron: Obj, jobs: Obj[]): Obj[] {
  const own = jobs.filter((job) => (job.metadata.ownerReferences ?? []).some((reference) => reference.uid === cron.metadata.uid));
  return own.sort((a, b) => Date.parse(b.metadata.creationTimestamp ?? '') - Date.parse(a.metadata.creationTimestamp ?? ''));
}

/** A job out of turn, as `kubectl create job --from` makes one. */
export function jobFrom(cron: Obj, suffix: string): Tree {
  const { metadata = {}, spec = {} } = (cron.spec?.jobTemplate ?? {}) as Tree;
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: `${cron.metadata.name.slice(0, 63 - 8 - suffix.length)}-manual-${suffix}`,
      namespace: cron.metadata.namespace,
      labels: metadata.labels ?? {},
      annotations: { ...metadata.annotations, 'cronjob.kubernetes.io/instantiate': 'manual' },
      ownerReferences: [{ apiVersion: 'batch/v1', kind: 'CronJob', name: cron.metadata.name, uid: cron.metadata.uid, controller: true }],
    },
    spec,
  };
}
