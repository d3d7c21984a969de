// Which pods a drain has go, and which stay; as `kubectl drain --ignore-daemonsets`. Pure.
import { ApiError } from '../api/client';
import type { Obj, Tree } from '../api/types';

export interface Stays {
  pod: Obj;
  why: string;
}

export interface Plan {
  evict: Obj[];
  stay: Stays[];
  /** What is lost when these go. */
  warnings: string[];
}

export function plan(pods: Obj[]): Plan {
  const found: Plan = { evict: [], stay: [], warnings: [] };
  for (const pod of pods) {
    const owner = (pod.metadata.ownerReferences ?? []).find((reference) => reference.controller);
    const ended = ['Succeeded', 'Failed'].includes(pod.status?.phase);
    if (pod.metadata.annotations?.['kubernetes.io/config.mirror']) found.stay.push({ pod, why: 'it belongs to the node' });
    else if (owner?.kind === 'DaemonSet') found.stay.push({ pod, why: `DaemonSet ${owner.name} runs on every node` });
    else {
      found.evict.push(pod);
      if (!owner && !ended) found.warnings.push(`${pod.metadata.name} is owned by nothing: nobody makes it anew.`);
      if (!ended && (pod.spec?.volumes ?? []).some((volume: Tree) => volume.emptyDir)) found.warnings.push(`${pod.metadata.name} loses what is in its emptyDir.`);
    }
  }
  return found;
}

/** Which budget refuses an eviction, in words; null where it failed otherwise. */
export function blocked(error: unknown): string | null {
  if (!(error instanceof ApiError) || error.code !== 429) return null;
  const cause = error.status?.details?.causes?.find((found) => found.reason === 'DisruptionBudget');
  return cause?.message ?? error.message;
}
