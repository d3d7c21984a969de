// Why something is pending, not ready or crashing, in one sentence, with the next step. Pure: an object and its events in,
// at most one finding out. The first rule that knows an answer gives it, causes before symptoms.
import type { Condition, Obj, Tree } from '../api/types';
import { containers } from './containers';
import { scheduling } from './scheduling';

export interface Finding {
  /** `bad`: does not get well by itself. `wait`: may. */
  tone: 'bad' | 'wait';
  what: string;
  next: string;
}

export const bad = (what: string, next: string): Finding => ({ tone: 'bad', what, next });
export const wait = (what: string, next: string): Finding => ({ tone: 'wait', what, next });

export function explain(object: Obj, events: Obj[], now: number): Finding | null {
  const rules: Record<string, (object: Obj, events: Obj[], now: number) => Finding | null> = {
    Pod: explainPod,
    Node: explainNode,
    Deployment: explainWorkload,
    ReplicaSet: explainWorkload,
    StatefulSet: explainWorkload,
    DaemonSet: explainWorkload,
    Job: explainJob,
    CronJob: explainCron,
    PersistentVolumeClaim: explainClaim,
    HorizontalPodAutoscaler: explainAutoscaler,
    Namespace: explainNamespace,
  };
  return rules[object.kind ?? '']?.(object, events, now) ?? stuckDeleting(object, now);
}

export function condition(object: Obj, type: string): Condition | undefined {
  return (object.status?.conditions as Condition[] | undefined)?.find((found) => found.type === type);
}

/** The newest event of a reason whose message the pattern fits. */
export function event(events: Obj[], reason: RegExp, pattern = /[^]*/): Tree | undefined {
  const fitting = events.filter((found) => reason.test(found.reason ?? '') && pattern.test(found.message ?? ''));
  return fitting.sort((a, b) => seenAt(b) - seenAt(a))[0];
}

export function seenAt(found: Obj): number {
  const times = [found.series?.lastObservedTime, found.lastTimestamp, found.eventTime, found.metadata.creationTimestamp];
  return Math.max(0, ...times.map((time) => Date.parse(time ?? '') || 0));
}

function stuckDeleting(object: Obj, now: number): Finding | null {
  const since = object.metadata.deletionTimestamp;
  const finalizers = object.metadata.finalizers ?? [];
  if (!since || finalizers.length === 0 || now - Date.parse(since) < 60_000) return null;
  return bad(
    `It is to be deleted but its finalizers hold it: ${finalizers.join(', ')}.`,
    'Find out whether the controller that owns the finalizer runs; it removes the finalizer when it has cleaned up.',
  );
}

export function explainPod(pod: Obj, events: Obj[], now: number): Finding | null {
  const status = pod.status ?? {};
  if (pod.metadata.deletionTimestamp) return deleting(pod, now);
  if (status.phase === 'Succeeded') return null;
  if (status.reason === 'Evicted') return bad(`It was evicted: ${status.message ?? 'the node ran out of a resource'}`, 'Lower its use or raise its requests; what owns it has made another.');
  return scheduling(pod, events) ?? nodeLost(pod) ?? containers(pod, events, now) ?? failed(pod) ?? gates(pod);
}

function deleting(pod: Obj, now: number): Finding | null {
  const late = now - Date.parse(pod.metadata.deletionTimestamp ?? '');
  if (late < 30_000) return null;
  if (pod.status?.reason === 'NodeLost' || condition(pod, 'DisruptionTarget')?.reason === 'DeletionByTaintManager') {
    return bad('It cannot end since its node does not answer.', `See to the node ${pod.spec?.nodeName}, or delete the pod without a grace period.`);
  }
  return stuckDeleting(pod, now) ?? wait('It should have ended by now, but its containers still run.', 'See its events; a container that ignores SIGTERM is killed after the grace period.');
}

function nodeLost(pod: Obj): Finding | null {
  const ready = condition(pod, 'Ready');
  if (pod.status?.reason !== 'NodeLost' && ready?.status !== 'Unknown') return null;
  return bad(`Its node ${pod.spec?.nodeName ?? ''} does not answer.`, 'See to the node; what owns the pod makes another after five minutes.');
}

function failed(pod: Obj): Finding | null {
  const { phase, reason, message } = pod.status ?? {};
  if (phase !== 'Failed') return null;
  if (reason === 'DeadlineExceeded') return bad('It ran longer than its activeDeadlineSeconds allow.', 'Raise the deadline or see in its logs what took so long.');
  return bad(`It has failed${reason ? ` (${reason})` : ''}${message ? `: ${message}` : '.'}`, 'Read its logs.');
}

function gates(pod: Obj): Finding | null {
  const closed = (pod.spec?.readinessGates ?? []).map((gate: Tree) => gate.conditionType).filter((type: string) => condition(pod, type)?.status !== 'True');
  if (closed.length === 0 || condition(pod, 'ContainersReady')?.status !== 'True') return null;
  return wait(`Its containers are ready, but its readiness gates are not: ${closed.join(', ')}.`, 'See to the controller that sets these conditions.');
}

/** Why pods could not be created: by quota, policy, or whatever admission says. */
export function refused(message: string): Finding {
  const quota = /exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+)/.exec(message);
  if (quota) return bad(`The quota ${quota[1]} is used up: ${quota[2]} more was asked for, ${quota[3]} is used, ${quota[4]} is allowed.`, `Raise the ResourceQuota ${quota[1]} or free what it counts.`);
  const must = /failed quota: ([^:]+): must specify ([^]+)/.exec(message);
  if (must) return bad(`The quota ${must[1]} asks that pods say their ${must[2]}.`, 'Set these in the pod template, or defaults by a LimitRange.');
  const security = /violates PodSecurity "([^"]+)": ([^]+)/.exec(message);
  if (security) return bad(`The namespace's pod security level ${security[1]} refuses its pods: ${security[2]}.`, 'Change the security context in the pod template, or the level by a label of the namespace.');
  const account = /serviceaccount "?([^" ]+)"? not found/i.exec(message);
  if (account) return bad(`Its service account ${account[1]} does not exist.`, 'Create the ServiceAccount or name another.');
  const webhook = /admission webhook "([^"]+)" denied the request: ?([^]*)/.exec(message);
  if (webhook) return bad(`The admission webhook ${webhook[1]} refuses its pods: ${webhook[2]}`, 'Do what the webhook asks for, or ask who runs it.');
  const calling = /failed calling webhook "([^"]+)"/.exec(message);
  if (calling) return bad(`The admission webhook ${calling[1]} does not answer, so no pod can be made.`, 'See to the service behind the webhook, or remove its configuration.');
  return bad(`Its pods cannot be created: ${message}`, 'Change what the message names.');
}

export function explainWorkload(workload: Obj, events: Obj[], now: number): Finding | null {
  const { spec = {}, status = {} } = workload;
  if (Object.values(status).every((value) => !value) && age(workload, now) > UNSEEN) return unseen(workload.kind ?? '');
  const wanted: number = workload.kind === 'DaemonSet' ? (status.desiredNumberScheduled ?? 0) : (spec.replicas ?? 1);
  const ready: number = workload.kind === 'DaemonSet' ? (status.numberReady ?? 0) : (status.readyReplicas ?? 0);
  const failure = condition(workload, 'ReplicaFailure');
  if (failure?.status === 'True') return refused(failure.message ?? '');
  const create = event(events, /^FailedCreate$/);
  if (create && ready < wanted && now - seenAt(create as Obj) < 3_600_000) return refused(String(create.message ?? '').replace(/^Error creating: /, ''));
  const progressing = condition(workload, 'Progressing');
  if (progressing?.reason === 'ProgressDeadlineExceeded') {
    return bad(`The rollout made no progress within ${spec.progressDeadlineSeconds ?? 600} seconds; ${ready} of ${wanted} pods are ready.`, 'See why its newest pods are not ready, or undo the rollout.');
  }
  if (spec.paused && (status.updatedReplicas ?? 0) < wanted) return wait('Its rollout is paused.', 'Resume it when you are done changing it.');
  if (ready >= wanted) return stuckDeleting(workload, now);
  return wait(`${ready} of ${wanted} pods are ready.`, 'See why its pods are not.');
}

/** How long a controller may take until it looks at something new. */
const UNSEEN = 30_000;
const age = (object: Obj, now: number): number => now - Date.parse(object.metadata.creationTimestamp ?? '') || 0;
const unseen = (kind: string): Finding => bad('No controller has looked at it, so nothing comes of it.', `See whether a controller of ${kind}s runs in this cluster: the server keeps the kind, and another program has to act on it.`);

function explainJob(job: Obj, _events: Obj[], now: number): Finding | null {
  const fails = condition(job, 'Failed') ?? condition(job, 'FailureTarget');
  if (fails?.status === 'True') {
    const reasons: Record<string, string> = {
      BackoffLimitExceeded: `It failed ${job.status?.failed ?? ''} times, more than its backoffLimit allows.`,
      DeadlineExceeded: 'It ran longer than its activeDeadlineSeconds allow.',
    };
    return bad(reasons[fails.reason ?? ''] ?? `It has failed: ${fails.message ?? fails.reason ?? ''}`, "Read its pods' logs.");
  }
  if (job.spec?.suspend) return wait('It is suspended.', 'Resume it by setting spec.suspend to false.');
  const isSeen = job.status?.startTime || (job.status?.conditions ?? []).length > 0;
  return !isSeen && age(job, now) > UNSEEN ? unseen('Job') : null;
}

function explainCron(cron: Obj, events: Obj[], now: number): Finding | null {
  const failed = event(events, /^(FailedCreate|FailedNeedsStart|UnparseableSchedule|InvalidSchedule|UnknownTimeZone|TooManyMissedTimes|FailedDelete)$/);
  if (failed && now - seenAt(failed as Obj) < 3_600_000) return bad(`It could not begin a run: ${failed.message}`, 'Change what the message names.');
  if (cron.spec?.suspend) return wait('It is suspended: no run begins.', 'Resume it, or run it now by hand.');
  return stuckDeleting(cron, now);
}

function explainClaim(claim: Obj, events: Obj[], now: number): Finding | null {
  if (claim.status?.phase === 'Lost') return bad('The volume that it was bound to is gone.', 'Restore the volume or make the claim anew.');
  if (claim.status?.phase !== 'Pending') return stuckDeleting(claim, now);
  const failed = event(events, /^(ProvisioningFailed|FailedBinding)$/);
  if (failed && /no persistent volumes available.*no storage class/i.test(failed.message)) {
    return bad('No volume fits it, and it has no storage class that would make one.', 'Name a storage class, make one the default, or create a fitting PersistentVolume.');
  }
  if (failed && /storageclass.*not found/i.test(failed.message)) {
    return bad(`Its storage class ${claim.spec?.storageClassName ?? ''} does not exist.`, 'Create the StorageClass or name another.');
  }
  if (failed) return bad(`Its volume cannot be made: ${failed.message}`, 'See to the provisioner of its storage class.');
  if (event(events, /^WaitForFirstConsumer$/)) return wait('It waits for a pod that uses it.', 'Nothing: its volume is made when a pod is scheduled.');
  return wait('It waits for a volume.', 'See whether the provisioner of its storage class runs.');
}

function explainNode(node: Obj): Finding | null {
  const ready = condition(node, 'Ready');
  if (ready?.status === 'Unknown') return bad('Its agent has stopped answering.', 'See whether the machine is up and `wherry` or the kubelet runs on it.');
  if (!ready || ready.status !== 'True') return bad(`It is not ready: ${ready?.message ?? 'its agent has not reported yet.'}`, 'See what its message names.');
  const pressures: [string, string, string][] = [
    ['MemoryPressure', 'It runs out of memory and evicts pods.', 'Move pods elsewhere or raise their requests.'],
    ['DiskPressure', 'It runs out of disk and evicts pods.', 'Free disk space on the node.'],
    ['PIDPressure', 'It runs out of process ids.', 'Find the pod that makes so many processes.'],
    ['NetworkUnavailable', 'Its pod network is not set up.', "See to the network plugin's pod on it."],
  ];
  const under = pressures.filter(([type]) => condition(node, type)?.status === 'True');
  return under.length === 0 ? null : bad(under.map(([, what]) => what).join(' '), under.map(([, , next]) => next).join(' '));
}

function explainAutoscaler(autoscaler: Obj): Finding | null {
  for (const type of ['AbleToScale', 'ScalingActive']) {
    const found = condition(autoscaler, type);
    if (found?.status !== 'False') continue;
    if (found.reason === 'FailedGetResourceMetric') return bad('It finds no metrics of its pods.', 'See whether metrics.k8s.io is served and whether the containers request what it measures.');
    if (found.reason === 'ScalingDisabled') return wait('It does nothing, since its target is scaled to zero.', 'Scale the target to one or more.');
    return bad(`It cannot scale: ${found.message ?? found.reason ?? ''}`, 'Change what the message names.');
  }
  return null;
}

function explainNamespace(namespace: Obj, _events: Obj[], now: number): Finding | null {
  if (namespace.status?.phase !== 'Terminating') return null;
  const held = (namespace.status.conditions ?? []).find((found: Condition) => found.status === 'True' && /Failure|Remaining/.test(found.type));
  return held ? bad(`It cannot go yet: ${held.message}`, 'Remove what the message names.') : stuckDeleting(namespace, now);
}
