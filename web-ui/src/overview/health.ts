// Workloads by health: of each kind how many are as they should be. Pure.
import type { Obj } from '../api/types';
import { progress } from '../workloads/rollout';

export interface Health {
  /** As in a workload's `kind`. */
  kind: string;
  well: number;
  all: number;
}

/** What is not being waited for: a rollout that has ended, a Job that has not failed. */
function isWell(workload: Obj): boolean {
  if (workload.kind !== 'Job') return progress(workload).finished;
  return !((workload.status?.conditions ?? []) as { type: string; status: string }[]).some(({ type, status }) => type === 'Failed' && status === 'True');
}

/** Of each kind that there is, in the order in which they come. */
export function health(workloads: Obj[]): Health[] {
  const found = new Map<string, Health>();
  for (const workload of workloads) {
    const kind = workload.kind ?? '';
    const so = found.get(kind) ?? { kind, well: 0, all: 0 };
    found.set(kind, { kind, well: so.well + Number(isWell(workload)), all: so.all + 1 });
  }
  return [...found.values()];
}
