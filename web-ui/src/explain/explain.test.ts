import { describe, expect, test } from 'vitest';
import type { Obj, Tree } from '../api/types';
import { exited, image, probeMessage } from './containers';
import { explain, refused } from './explain';
import { unschedulable } from './scheduling';

const NOW = Date.parse('2026-06-01T12:00:00Z');
const before = (seconds: number): string => new Date(NOW - seconds * 1000).toISOString();

function pod(status: Tree, spec: Tree = {}, metadata: Tree = {}): Obj {
  return {
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'a', ...metadata },
    spec: { nodeName: 'n1', containers: [{ name: 'app', image: 'shop:1', resources: { limits: { memory: '64Mi' } } }], ...spec },
    status: { phase: 'Running', ...status },
  };
}

const container = (state: Tree, more: Tree = {}): Tree => ({ containerStatuses: [{ name: 'app', ready: false, restartCount: 0, state, ...more }] });
const happened = (reason: string, message: string, seconds = 10): Obj => ({ kind: 'Event', metadata: { name: 'e' }, reason, message, lastTimestamp: before(seconds) });
const what = (object: Obj, events: Obj[] = []): string => explain(object, events, NOW)?.what ?? 'nothing';

describe('a pod without trouble', () => {
  test.each([
    ['runs and is ready', pod({ conditions: [{ type: 'Ready', status: 'True' }], containerStatuses: [{ name: 'app', ready: true, restartCount: 0, state: { running: { startedAt: before(60) } } }] })],
    ['has succeeded', pod({ phase: 'Succeeded', containerStatuses: [{ name: 'app', state: { terminated: { exitCode: 0 } } }] })],
    ['has just begun', pod(container({ running: { startedAt: before(2) } }))],
    ['is being deleted in its grace period', pod({}, {}, { deletionTimestamp: before(5) })],
    ['ended well and runs again', pod(container({ running: { startedAt: before(60) } }, { ready: true, restartCount: 3, lastState: { terminated: { exitCode: 0, finishedAt: before(61) } } }))],
    ['crashed long ago', pod(container({ running: { startedAt: before(6000) } }, { ready: true, restartCount: 3, lastState: { terminated: { exitCode: 1, finishedAt: before(6001) } } }))],
  ])('%s', (_, object) => expect(what(object)).toBe('nothing'));
});

describe('scheduling', () => {
  const pending = (message: string, reason = 'Unschedulable', spec: Tree = {}): Obj =>
    pod({ phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', reason, message }] }, { nodeName: undefined, ...spec });

  test.each([
    ['0/3 nodes are available: 3 Insufficient cpu.', 'No node takes it: 3 nodes have too little CPU left.'],
    ['0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.', 'No node takes it: 1 node has too little memory left.'],
    ["0/3 nodes are available: 1 node(s) had untolerated taint {gpu: true}, 2 node(s) didn't match Pod's node affinity/selector.", 'No node takes it: 2 nodes have not the labels that it asks for, 1 node has the taint gpu: true that it does not tolerate.'],
    ['0/2 nodes are available: 2 node(s) were unschedulable.', 'No node takes it: 2 nodes are cordoned.'],
    ['0/1 nodes are available: 1 Too many pods.', 'No node takes it: 1 node has as many pods as fit.'],
    ["0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.", 'No node takes it: 2 nodes have a pod that it must not stand beside.'],
    ["0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.", 'No node takes it: 2 nodes would make the spread too uneven.'],
    ["0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.", 'No node takes it: 1 node has its host port in use.'],
    ['0/1 nodes are available: 1 node(s) had volume node affinity conflict.', 'No node takes it: 1 node cannot reach its volume.'],
    ['0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.', 'No node takes it: 1 node has no volume for its claim.'],
    ['0/2 nodes are available: 2 node(s) were struck by lightning.', 'No node takes it: 2 nodes: were struck by lightning.'],
    ['0/1 nodes are available: persistentvolumeclaim "data" not found.', 'Its PersistentVolumeClaim data does not exist.'],
    ['no nodes available to schedule pods', 'There is no node at all.'],
    ['something else entirely', 'No node takes it: something else entirely'],
  ])('%s', (message, expected) => {
    const found = unschedulable(message);
    expect(found.what.startsWith(expected)).toBe(true);
    expect(found.next).not.toBe('');
    expect(what(pending(message))).toBe(found.what);
  });

  test('gates', () => expect(what(pending('', 'SchedulingGated', { schedulingGates: [{ name: 'x/quota' }] }))).toBe('It is held back by its scheduling gates: x/quota.'));
  test('the event tells where the condition is not there yet', () => {
    expect(what(pod({ phase: 'Pending' }, { nodeName: undefined }), [happened('FailedScheduling', '0/1 nodes are available: 1 Insufficient cpu.')])).toContain('too little CPU');
  });
  test('nobody has looked yet', () => expect(what(pod({ phase: 'Pending' }, { nodeName: undefined }))).toBe('It waits for the scheduler.'));
});

describe('images', () => {
  test.each([
    ['manifest unknown', 'the registry has no such image'], ['pull access denied', 'refuses access'], ['dial tcp: lookup reg on 1.1.1.1: no such host', 'cannot be resolved'],
    ['x509: certificate signed by unknown authority', 'not trusted'], ['i/o timeout', 'does not answer in time'], ['connect: connection refused', 'cannot be reached'],
    ['toomanyrequests: slow down', 'takes no more requests'], ['no space left on device', 'no disk space'], ['no match for platform in manifest', 'not built for'], ['strange', ': strange'], ['', 'cannot be pulled.'],
  ])('%s', (message, expected) => expect(image('shop:1', message).what).toContain(expected));

  test('the event tells more than the back-off', () => {
    const object = pod({ phase: 'Pending', ...container({ waiting: { reason: 'ImagePullBackOff', message: 'Back-off pulling image "shop:1"' } }) });
    expect(what(object, [happened('Failed', 'Failed to pull image "shop:1": manifest unknown')])).toBe('The image shop:1 cannot be pulled: the registry has no such image.');
  });
  test('never pulled', () => expect(what(pod(container({ waiting: { reason: 'ErrImageNeverPull' } })))).toContain('imagePullPolicy is Never'));
  test('no name', () => expect(what(pod(container({ waiting: { reason: 'InvalidImageName' } })))).toBe('The image name shop:1 is not valid.'));
});

describe('configuration and volumes', () => {
  const config = (message: string): string => what(pod({ phase: 'Pending', ...container({ waiting: { reason: 'CreateContainerConfigError', message } }) }));
  test('a Secret is absent', () => expect(config('secret "db" not found')).toBe('Container app needs the Secret db, which does not exist.'));
  test('a key is absent', () => expect(config("couldn't find key url in ConfigMap a/settings")).toBe('Container app needs the key url of ConfigMap settings, which has no such key.'));
  test('anything else', () => expect(config('odd')).toBe('Container app cannot be configured: odd'));

  const mounting = (message: string): string => what(pod({ phase: 'Pending', ...container({ waiting: { reason: 'ContainerCreating' } }) }), [happened('FailedMount', message)]);
  test('a volume needs what is absent', () => expect(mounting('MountVolume.SetUp failed for volume "c": configmap "settings" not found')).toBe('A volume needs the ConfigMap settings, which does not exist.'));
  test('a volume is elsewhere', () => expect(mounting('Multi-Attach error for volume "pvc-1"')).toContain('still attached to another node'));
  test('no sandbox', () => expect(what(pod({ phase: 'Pending', ...container({ waiting: { reason: 'ContainerCreating' } }) }), [happened('FailedCreatePodSandBox', 'no address left')])).toContain('no address left'));
  test('init containers come first', () => {
    expect(what(pod({ phase: 'Pending', initContainerStatuses: [{ name: 'setup', state: { running: {} }, ready: true }], ...container({ waiting: { reason: 'PodInitializing' } }) }))).toBe('Init container setup runs; the others wait for it.');
  });
  test('pulling takes time', () => expect(what(pod({ phase: 'Pending', ...container({ waiting: { reason: 'ContainerCreating' } }) }), [happened('Pulling', 'Pulling image')])).toBe('Its image is being pulled.'));
});

describe('crashes', () => {
  const crash = (last: Tree, events: Obj[] = []): string => what(pod(container({ waiting: { reason: 'CrashLoopBackOff' } }, { restartCount: 4, lastState: { terminated: last } })), events);
  test('memory, with the limit', () => expect(crash({ reason: 'OOMKilled', exitCode: 137 })).toBe('Container app needed more memory than its limit of 64Mi and was killed.'));
  test('exit code', () => expect(crash({ exitCode: 3 })).toBe('Container app ended with exit code 3 and was restarted 4 times.'));
  test('no command', () => expect(crash({ exitCode: 127 })).toContain('did not find its command'));
  test('it should go on', () => expect(crash({ exitCode: 0 })).toContain('though it should go on'));
  test('a liveness probe kills it', () => {
    const events = [happened('Unhealthy', 'Liveness probe failed: HTTP probe failed with statuscode: 500'), happened('Killing', 'Container app failed liveness probe, will be restarted')];
    expect(crash({ exitCode: 137 }, events)).toBe('Container app is restarted again and again since its liveness probe fails: it answers 500.');
  });
  test('an init container crashes', () => {
    const status = { name: 'setup', restartCount: 1, state: { waiting: { reason: 'CrashLoopBackOff' } }, lastState: { terminated: { exitCode: 1 } } };
    expect(what(pod({ phase: 'Pending', initContainerStatuses: [status], ...container({ waiting: { reason: 'PodInitializing' } }) }))).toBe('Container setup ended with exit code 1 and was restarted 1 time.');
  });
  test('it runs again', () => {
    expect(what(pod(container({ running: { startedAt: before(30) } }, { ready: true, restartCount: 2, lastState: { terminated: { exitCode: 139, finishedAt: before(31) } } })))).toContain('memory fault');
  });
  test('it ended for good', () => expect(what(pod({ phase: 'Failed', ...container({ terminated: { exitCode: 2 } }) }))).toBe('Container app ended with exit code 2.'));
  test('it cannot be started', () => expect(what(pod(container({ waiting: { reason: 'RunContainerError', message: 'no such file' } })))).toContain('no such file'));
  test.each([[{ exitCode: 143 }, 'SIGTERM'], [{ exitCode: 126 }, 'could not execute'], [{}, 'ended'], [{ reason: 'StartError', message: 'x' }, 'could not be started: x']])('%j', (state, expected) => expect(exited(state)).toContain(expected));
});

describe('probes', () => {
  const running = container({ running: { startedAt: before(100) } });
  test('readiness', () => expect(what(pod(running), [happened('Unhealthy', 'Readiness probe failed: Get "http://10.0.0.1:8080/": dial tcp 10.0.0.1:8080: connect: connection refused')])).toBe('Container app runs, but its readiness probe fails: nothing listens at 10.0.0.1:8080.'));
  test('no event yet', () => expect(what(pod(running))).toBe('Container app runs and is not ready yet.'));
  test('starting', () => expect(what(pod(container({ running: { startedAt: before(5) } }, { started: false })))).toContain('startup probe yet'));
  test("another container's event is not this one's", () => {
    const other = { ...happened('Unhealthy', 'Readiness probe failed: no'), involvedObject: { fieldPath: 'spec.containers{side}' } };
    expect(what(pod(running), [other])).toBe('Container app runs and is not ready yet.');
  });
  test.each([['Readiness probe failed: context deadline exceeded', 'it does not answer in time.'], ['Liveness probe failed: cat: no such file', 'cat: no such file.'], ['Readiness probe failed: ', 'it gave no reason.']])('%s', (message, expected) => expect(probeMessage(message)).toBe(expected));
});

describe('the end of a pod', () => {
  test('evicted', () => expect(what(pod({ phase: 'Failed', reason: 'Evicted', message: 'The node was low on memory.' }))).toBe('It was evicted: The node was low on memory.'));
  test('deadline', () => expect(what(pod({ phase: 'Failed', reason: 'DeadlineExceeded' }))).toContain('activeDeadlineSeconds'));
  test('finalizers', () => expect(what(pod({}, {}, { deletionTimestamp: before(600), finalizers: ['x/y'] }))).toContain('x/y'));
  test('it ignores SIGTERM', () => expect(what(pod({}, {}, { deletionTimestamp: before(60) }))).toContain('still run'));
  test('its node is gone', () => expect(what(pod({ conditions: [{ type: 'Ready', status: 'Unknown' }] }))).toBe('Its node n1 does not answer.'));
  test('gates', () => {
    const object = pod({ conditions: [{ type: 'ContainersReady', status: 'True' }], containerStatuses: [{ name: 'app', ready: true, state: { running: {} } }] }, { readinessGates: [{ conditionType: 'lb' }] });
    expect(what(object)).toContain('readiness gates are not: lb');
  });
});

describe('workloads', () => {
  const deployment = (status: Tree, spec: Tree = {}): Obj => ({ kind: 'Deployment', metadata: { name: 'web' }, spec: { replicas: 2, ...spec }, status });
  test('well', () => expect(what(deployment({ readyReplicas: 2 }))).toBe('nothing'));
  test('quota', () => expect(what(deployment({ conditions: [{ type: 'ReplicaFailure', status: 'True', message: 'pods "web-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2' }] }))).toBe('The quota small is used up: pods=1 more was asked for, pods=2 is used, pods=2 is allowed.'));
  test('deadline', () => expect(what(deployment({ readyReplicas: 1, conditions: [{ type: 'Progressing', status: 'False', reason: 'ProgressDeadlineExceeded' }] }))).toContain('1 of 2 pods are ready'));
  test('paused', () => expect(what(deployment({ readyReplicas: 2, updatedReplicas: 0 }, { paused: true }))).toBe('Its rollout is paused.'));
  test('under way', () => expect(what(deployment({ readyReplicas: 1 }))).toBe('1 of 2 pods are ready.'));
  test('scaled to nothing', () => expect(what(deployment({}, { replicas: 0 }))).toBe('nothing'));
  test('events of creation', () => expect(what({ ...deployment({}), kind: 'StatefulSet' }, [happened('FailedCreate', 'Error creating: serviceaccount "robot" not found')])).toBe('Its service account robot does not exist.'));
  test('daemon sets', () => expect(what({ kind: 'DaemonSet', metadata: { name: 'd' }, status: { desiredNumberScheduled: 3, numberReady: 2 } })).toBe('2 of 3 pods are ready.'));
  test.each([
    ['violates PodSecurity "restricted:latest": runAsNonRoot != true', 'restricted:latest'], ['admission webhook "w.x" denied the request: no', 'The admission webhook w.x refuses its pods: no'],
    ['failed calling webhook "w.x": dial', 'does not answer'], ['failed quota: q: must specify limits.memory', 'The quota q asks that pods say their limits.memory'], ['odd', 'cannot be created: odd'],
  ])('%s', (message, expected) => expect(refused(message).what).toContain(expected));
});

describe('others', () => {
  const conditions = (kind: string, type: string, status: string, more: Tree = {}): Obj => ({ kind, metadata: { name: 'x' }, status: { conditions: [{ type, status, ...more }] } });
  test('a job fails', () => expect(what(conditions('Job', 'Failed', 'True', { reason: 'BackoffLimitExceeded' }))).toContain('backoffLimit'));
  test('what no controller looks at', () => {
    const old = { name: 'x', creationTimestamp: before(60) };
    for (const kind of ['Job', 'StatefulSet', 'DaemonSet', 'Deployment']) expect(what({ kind, metadata: old, spec: {}, status: {} })).toBe('No controller has looked at it, so nothing comes of it.');
    expect(what({ kind: 'Job', metadata: { ...old, creationTimestamp: before(5) }, spec: {} })).toBe('nothing');
    expect(what({ kind: 'Job', metadata: old, spec: {}, status: { startTime: before(50) } })).toBe('nothing');
    expect(what({ kind: 'Deployment', metadata: old, spec: {}, status: { observedGeneration: 1, readyReplicas: 1 } })).toBe('nothing');
  });
  test('a job is suspended', () => expect(what({ kind: 'Job', metadata: { name: 'j' }, spec: { suspend: true } })).toBe('It is suspended.'));
  test('a schedule is suspended, or cannot begin a run', () => {
    const cron: Obj = { kind: 'CronJob', metadata: { name: 'c' }, spec: { suspend: true } };
    expect(what(cron)).toBe('It is suspended: no run begins.');
    expect(what(cron, [happened('FailedCreate', 'quota')])).toBe('It could not begin a run: quota');
    expect(what({ ...cron, spec: {} }, [happened('FailedCreate', 'quota', 7200)])).toBe('nothing');
  });
  test('a node is gone', () => expect(what(conditions('Node', 'Ready', 'Unknown'))).toContain('stopped answering'));
  test('a node is not ready', () => expect(what(conditions('Node', 'Ready', 'False', { message: 'no runtime.' }))).toBe('It is not ready: no runtime.'));
  test('pressure', () => expect(what({ kind: 'Node', metadata: { name: 'n' }, status: { conditions: [{ type: 'Ready', status: 'True' }, { type: 'DiskPressure', status: 'True' }] } })).toContain('runs out of disk'));
  test('an autoscaler without metrics', () => expect(what(conditions('HorizontalPodAutoscaler', 'ScalingActive', 'False', { reason: 'FailedGetResourceMetric' }))).toBe('It finds no metrics of its pods.'));
  const claim = (events: Obj[]): string => what({ kind: 'PersistentVolumeClaim', metadata: { name: 'c' }, spec: { storageClassName: 'fast' }, status: { phase: 'Pending' } }, events);
  test.each([
    ['FailedBinding', 'no persistent volumes available for this claim and no storage class is set', 'has no storage class'], ['ProvisioningFailed', 'storageclass.storage.k8s.io "fast" not found', 'storage class fast does not exist'],
    ['ProvisioningFailed', 'disk on fire', 'disk on fire'], ['WaitForFirstConsumer', 'waiting', 'waits for a pod'], ['Other', '', 'waits for a volume'],
  ])('a claim: %s %s', (reason, message, expected) => expect(claim([happened(reason, message)])).toContain(expected));
  test('a namespace does not go', () => {
    const object = { kind: 'Namespace', metadata: { name: 'n', deletionTimestamp: before(90) }, status: { phase: 'Terminating', conditions: [{ type: 'NamespaceContentRemaining', status: 'True', message: 'Some resources are remaining: x' }] } };
    expect(what(object)).toContain('Some resources are remaining');
  });
  test('anything that its finalizers hold', () => expect(what({ kind: 'Widget', metadata: { name: 'w', deletionTimestamp: before(120), finalizers: ['a'] } })).toContain('finalizers hold it: a'));
});
