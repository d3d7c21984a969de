// Why a pod's containers do not run or are not ready. Pure.
import type { Obj, Tree } from '../api/types';
import { bad, event, wait, type Finding } from './explain';

const LOGS = 'Read its logs, of the previous run as well.';

export function containers(pod: Obj, events: Obj[], now: number): Finding | null {
  const { initContainerStatuses = [], containerStatuses = [] } = pod.status ?? {};
  const all: Tree[] = [...initContainerStatuses, ...containerStatuses];
  const rules = [waiting, ended, probes, restarted];
  for (const rule of rules) {
    for (const status of all) {
      const found = rule(status, pod, events, now);
      if (found) return found;
    }
  }
  return starting(pod, events, initContainerStatuses, all);
}

function waiting(status: Tree, pod: Obj, events: Obj[]): Finding | null {
  const { reason = '', message = '' } = status.state?.waiting ?? {};
  const name = `Container ${status.name}`;
  switch (reason) {
    case 'ErrImagePull':
    case 'ImagePullBackOff':
    case 'RegistryUnavailable':
      return image(status.image ?? imageOf(pod, status.name), pulling(message, events));
    case 'InvalidImageName':
      return bad(`The image name ${imageOf(pod, status.name)} is not valid.`, 'Correct spec.containers[].image.');
    case 'ErrImageNeverPull':
      return bad(`The image ${imageOf(pod, status.name)} is not on the node, and imagePullPolicy is Never.`, 'Load the image onto the node (`wherry image load`), or let it be pulled.');
    case 'CreateContainerConfigError':
      return configuration(name, message);
    case 'CreateContainerError':
    case 'RunContainerError':
    case 'StartError':
      return bad(`${name} cannot be started: ${message || reason}`, 'Change what the message names; often the command or the image.');
    case 'CrashLoopBackOff':
      return crashing(name, status, pod, events);
    default:
      return null;
  }
}

const imageOf = (pod: Obj, name: string): string =>
  [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])].find((container: Tree) => container.name === name)?.image ?? '';

/** The message that tells most: "Back-off pulling image" tells nothing. */
function pulling(message: string, events: Obj[]): string {
  if (message && !/^Back-off pulling image "[^"]*"$/.test(message)) return message;
  return event(events, /^Failed$/, /pull/i)?.message ?? message;
}

export function image(name: string, message: string): Finding {
  const what = `The image ${name} cannot be pulled`;
  const cases: [RegExp, string, string][] = [
    [/not found|manifest unknown|does not exist|404/i, ': the registry has no such image.', 'Check its name and tag.'],
    [/unauthorized|authentication required|denied|401|403/i, ': the registry refuses access.', 'Check its name, and add an imagePullSecret that may read it.'],
    [/no such host|name resolution|lookup /i, ": the registry's name cannot be resolved.", "Check the image's name and the node's DNS."],
    [/x509|certificate/i, ": the registry's certificate is not trusted.", "Add the registry's authority to the node."],
    [/timeout|timed out|deadline/i, ': the registry does not answer in time.', 'Check the network between the node and the registry.'],
    [/connection refused|unreachable|cannot connect/i, ': the registry cannot be reached.', 'Check whether the registry runs and the node reaches it.'],
    [/toomanyrequests|429|rate limit/i, ': the registry takes no more requests for now.', 'Wait, or sign in to the registry with an imagePullSecret.'],
    [/no space left/i, ': the node has no disk space left.', 'Free disk space on the node.'],
    [/no match for platform|exec format/i, ": it is not built for the node's platform.", 'Build the image for this platform.'],
  ];
  for (const [pattern, why, next] of cases) if (pattern.test(message)) return bad(what + why, next);
  return bad(message ? `${what}: ${message}` : `${what}.`, "Check the image's name and whether the node reaches its registry.");
}

function configuration(name: string, message: string): Finding {
  const absent = /(secret|configmap) "([^"]+)" not found/i.exec(message);
  if (absent) return bad(`${name} needs the ${kindName(absent[1])} ${absent[2]}, which does not exist.`, `Create the ${kindName(absent[1])}, or name another.`);
  const key = /couldn't find key (\S+) in (\S+) \S*?([^/\s]+)$/.exec(message);
  if (key) return bad(`${name} needs the key ${key[1]} of ${kindName(key[2])} ${key[3]}, which has no such key.`, 'Add the key, or name another.');
  return bad(`${name} cannot be configured: ${message}`, 'Change what the message names.');
}

const kindName = (word = ''): string => (/secret/i.test(word) ? 'Secret' : 'ConfigMap');

function crashing(name: string, status: Tree, pod: Obj, events: Obj[]): Finding {
  const last = status.lastState?.terminated ?? {};
  const times = `${status.restartCount ?? 0} time${status.restartCount === 1 ? '' : 's'}`;
  const liveness = event(events, /^Unhealthy$/, /^(Liveness|Startup) probe/);
  const killed = event(events, /^Killing$/, /failed (liveness|startup) probe/);
  if (last.reason === 'OOMKilled') return outOfMemory(name, status, pod);
  if (liveness && killed) return bad(`${name} is restarted again and again since its ${/^S/.test(liveness.message) ? 'startup' : 'liveness'} probe fails: ${probeMessage(liveness.message)}`, 'Correct the probe or what it asks; give slow starts a startupProbe.');
  return bad(`${name} ${exited(last)} and was restarted ${times}.`, last.message ? `It said: ${last.message}` : LOGS);
}

function outOfMemory(name: string, status: Tree, pod: Obj): Finding {
  const limit = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])].find((container: Tree) => container.name === status.name)?.resources?.limits?.memory;
  return bad(`${name} needed more memory than its limit${limit ? ` of ${limit}` : ''} and was killed.`, 'Raise resources.limits.memory, or find out what takes so much.');
}

/** What an exit code says. */
export function exited(state: Tree): string {
  const code = state.exitCode;
  const known: Record<number, string> = {
    0: 'ended by itself, though it should go on',
    126: 'could not execute its command',
    127: 'did not find its command',
    128: 'could not be started',
    134: 'aborted (SIGABRT)',
    137: 'was killed (SIGKILL)',
    139: 'broke off by a memory fault (SIGSEGV)',
    143: 'was ended (SIGTERM)',
  };
  if (state.reason === 'ContainerCannotRun' || state.reason === 'StartError') return `could not be started: ${state.message ?? ''}`;
  if (code === undefined) return 'ended';
  return known[code] ?? `ended with exit code ${code}`;
}

function ended(status: Tree, pod: Obj): Finding | null {
  const state = status.state?.terminated;
  if (!state || state.exitCode === 0) return null;
  const name = `Container ${status.name}`;
  if (state.reason === 'OOMKilled') return outOfMemory(name, status, pod);
  return bad(`${name} ${exited(state)}.`, state.message ? `It said: ${state.message}` : 'Read its logs.');
}

function probes(status: Tree, _pod: Obj, events: Obj[], now: number): Finding | null {
  if (status.ready || !status.state?.running) return null;
  const name = `Container ${status.name}`;
  const own = events.filter((found) => !found.involvedObject?.fieldPath || String(found.involvedObject.fieldPath).includes(`{${status.name}}`));
  const failing = event(own, /^Unhealthy$/);
  if (failing) {
    const kind = /^(\w+) probe/.exec(failing.message)?.[1]?.toLowerCase() ?? 'readiness';
    return bad(`${name} runs, but its ${kind} probe fails: ${probeMessage(failing.message)}`, 'See whether it listens where the probe asks, and read its logs.');
  }
  const since = Date.parse(status.state.running.startedAt ?? '');
  if (status.started === false) return wait(`${name} runs and has not passed its startup probe yet.`, 'Give it time; read its logs.');
  if (now - since > 10_000) return wait(`${name} runs and is not ready yet.`, 'See its readiness probe and its logs.');
  return null;
}

export function probeMessage(message: string): string {
  const said = message.replace(/^\w+ probe (failed|errored)[^:]*: ?/, '').trim();
  const code = /HTTP probe failed with statuscode: (\d+)/.exec(said);
  if (code) return `it answers ${code[1]}.`;
  if (/connection refused/.test(said)) return `nothing listens at ${/dial tcp ([^ :]+:\d+)/.exec(said)?.[1] ?? 'its port'}.`;
  if (/deadline exceeded|timeout|timed out/i.test(said)) return 'it does not answer in time.';
  return /[.!?]$/.test(said) ? said : `${said || 'it gave no reason'}.`;
}

/** It runs, but has ended lately. */
function restarted(status: Tree, pod: Obj, _events: Obj[], now: number): Finding | null {
  const last = status.lastState?.terminated;
  const recent = now - Date.parse(last?.finishedAt ?? '') < 600_000;
  if (!last || !recent || !status.state?.running || status.restartCount < 1) return null;
  if (last.reason === 'OOMKilled') return outOfMemory(`Container ${status.name}`, status, pod);
  if (last.exitCode === 0) return null;
  return wait(`Container ${status.name} ${exited(last)} lately and runs again; it was restarted ${status.restartCount} time${status.restartCount === 1 ? '' : 's'}.`, LOGS);
}

/** Nothing has run yet. */
function starting(pod: Obj, events: Obj[], init: Tree[], all: Tree[]): Finding | null {
  if (pod.status?.phase !== 'Pending' || !pod.spec?.nodeName) return null;
  const mount = event(events, /^(FailedMount|FailedAttachVolume|FailedMapVolume)$/);
  if (mount) return volume(mount.message);
  const sandbox = event(events, /^FailedCreatePodSandBox$/);
  if (sandbox) return bad(`Its network or sandbox cannot be set up: ${sandbox.message}`, "See to the node's runtime and network.");
  const running = init.find((status) => status.state?.running);
  if (running) return wait(`Init container ${running.name} runs; the others wait for it.`, `If it takes long, read the logs of ${running.name}.`);
  const pull = event(events, /^Pulling$/);
  if (pull && !event(events, /^Pulled$/)) return wait('Its image is being pulled.', 'Nothing, unless it takes long.');
  return all.length > 0 ? wait('Its containers are being created.', 'Nothing, unless it takes long; then see its events.') : null;
}

function volume(message: string): Finding {
  const absent = /(secret|configmap|persistentvolumeclaim) "([^"]+)" not found/i.exec(message);
  if (absent) {
    const kind = /claim/i.test(absent[1]!) ? 'PersistentVolumeClaim' : kindName(absent[1]);
    return bad(`A volume needs the ${kind} ${absent[2]}, which does not exist.`, `Create the ${kind}, or name another.`);
  }
  if (/Multi-Attach/.test(message)) return bad('Its volume is still attached to another node.', 'Wait until the pod there has ended, or see to that node.');
  return bad(`A volume cannot be mounted: ${message}`, 'Change what the message names.');
}
