// A pod's state in a word, as kubectl's STATUS. Pure.
import type { Obj, Tree } from '../api/types';

export interface PodState {
  text: string;
  ready: number;
  all: number;
  restarts: number;
}

export function podState(pod: Obj): PodState {
  const { status = {}, spec = {}, metadata } = pod;
  const containers: Tree[] = status.containerStatuses ?? [];
  const init: Tree[] = status.initContainerStatuses ?? [];
  const counts = {
    ready: containers.filter((container) => container.ready).length,
    all: (spec.containers ?? []).length,
    restarts: [...containers, ...init].reduce((sum, container) => sum + (container.restartCount ?? 0), 0),
  };
  return { text: word(metadata.deletionTimestamp, status, containers, init, spec), ...counts };
}

function word(deleting: string | undefined, status: Tree, containers: Tree[], init: Tree[], spec: Tree): string {
  if (deleting) return 'Terminating';
  if (status.reason) return status.reason;
  const held = init.find((container) => !container.ready && !(container.state?.terminated?.exitCode === 0) && !container.started);
  if (held && status.phase === 'Pending') {
    const reason = held.state?.waiting?.reason ?? held.state?.terminated?.reason;
    if (reason && reason !== 'PodInitializing') return `Init:${reason}`;
    return `Init:${init.filter((container) => container.state?.terminated?.exitCode === 0).length}/${(spec.initContainers ?? []).length}`;
  }
  const waiting = containers.find((container) => container.state?.waiting?.reason);
  if (waiting) return waiting.state.waiting.reason;
  const ended = containers.find((container) => container.state?.terminated);
  if (ended && status.phase !== 'Succeeded') return ended.state.terminated.reason ?? `ExitCode:${ended.state.terminated.exitCode}`;
  return status.phase === 'Succeeded' ? 'Completed' : (status.phase ?? 'Unknown');
}
