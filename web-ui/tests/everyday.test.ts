// What people do every day, on every kind of workload, by mouse and by keys: real Chromium against a real `wherry up`.
import { type AddressInfo, createServer } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Tree } from '../src/api/types';
import { accessible, changes, confirm, launch, rows, sees, shot, visit, type Visit } from './browser';
import { Cluster } from './cluster';

const cluster = new Cluster();
let browser: Browser;
let admin: Visit;
let page: Page;
const home = (hash = '#/'): string => `${cluster.url}/ui/${hash}`;
const path = (group: string, plural: string, name = ''): string => `${group ? `/apis/${group}/v1` : '/api/v1'}/namespaces/default/${plural}${name && `/${name}`}`;

async function open(hash: string, on = page): Promise<void> {
  await on.evaluate((wanted) => (location.hash = wanted), hash);
}

async function until(at: string, wanted: (object: Tree) => boolean): Promise<Tree> {
  let last: Tree;
  await expect.poll(async () => Boolean(wanted((last = (await cluster.ask('GET', at)).json))), { timeout: 60_000, interval: 250 }).toBe(true);
  return last!;
}

const template = (name: string, image: string, container: Tree = {}): Tree => ({ metadata: { labels: { app: name } }, spec: { terminationGracePeriodSeconds: 1, containers: [{ name: 'main', image, imagePullPolicy: 'IfNotPresent', ...container }] } });
const workload = (kind: string, name: string, image: string, more: Tree = {}): Tree => ({ apiVersion: 'apps/v1', kind, metadata: { name, namespace: 'default' }, spec: { selector: { matchLabels: { app: name } }, template: template(name, image), ...more } });
const pod = (name: string, image: string, spec: Tree = {}, container: Tree = {}): Tree => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' }, spec: { ...template(name, image, container).spec, ...spec } });
/** As a controller does that this cluster may not have. */
const status = (group: string, plural: string, name: string, found: Tree): Promise<Tree> => cluster.must('PATCH', `${path(group, plural, name)}/status`, { status: found }, { 'content-type': 'application/merge-patch+json' });
const owned = (owner: Tree): Tree => ({ ownerReferences: [{ apiVersion: owner.apiVersion, kind: owner.kind, name: owner.metadata.name, uid: owner.metadata.uid, controller: true }] });

beforeAll(async () => {
  if (!process.env.WHERRY_BIN) throw new Error('WHERRY_BIN names the binary to test');
  await cluster.up();
  for (const name of ['hello:1', 'hello:2']) cluster.load('examples/hello/hello.wasm', name);
  cluster.load('tests/workloads/print.wasm', 'print:1');
  cluster.load('tests/workloads/exit-3.wasm', 'exit:3');
  await cluster.applyHello();
  browser = await launch();
  admin = await visit(browser, cluster.link);
  page = admin.page;
  await page.getByRole('region', { name: 'Workloads' }).waitFor();
});

afterAll(async () => {
  await browser?.close();
  await cluster.down();
});

describe('every kind of workload', () => {
  test('a StatefulSet: its rollout, its revisions, one undone', async () => {
    const made = { ...(await cluster.must('POST', path('apps', 'statefulsets'), workload('StatefulSet', 'db', 'hello:2', { serviceName: 'db', replicas: 2 }))), apiVersion: 'apps/v1', kind: 'StatefulSet' };
    for (const [number, image] of [[1, 'hello:1'], [2, 'hello:2']] as const) {
      await cluster.must('POST', path('apps', 'controllerrevisions'), {
        apiVersion: 'apps/v1', kind: 'ControllerRevision', metadata: { name: `db-${number}`, namespace: 'default', ...owned(made) }, revision: number, data: { spec: { template: { ...template('db', image), $patch: 'replace' } } },
      });
    }
    await cluster.must('POST', path('', 'pods'), { ...pod('db-0', 'hello:2'), metadata: { name: 'db-0', namespace: 'default', labels: { app: 'db' }, ...owned(made) } });
    await status('apps', 'statefulsets', 'db', { observedGeneration: 1, replicas: 2, readyReplicas: 1, availableReplicas: 1, updatedReplicas: 2, updateRevision: 'db-2', currentRevision: 'db-2' });
    await open('#/k/apps/statefulsets/default/db');
    await sees(page, '1 of 2 pods are available.');
    await page.getByRole('region', { name: 'Pods' }).getByRole('link', { name: 'db-0' }).waitFor();
    await page.getByRole('row', { name: /^2 current/ }).waitFor();
    await shot(page, 'statefulset');
    await accessible(page);
    await page.getByRole('button', { name: 'Undo to 1' }).click();
    await page.getByRole('dialog').getByText('image: hello:1').first().waitFor();
    await page.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
    await until(path('apps', 'statefulsets', 'db'), (found) => found.spec.template.spec.containers[0].image === 'hello:1');
    await page.getByRole('button', { name: 'Scale' }).click();
    await page.getByRole('spinbutton').fill('3');
    await page.getByRole('button', { name: 'Review' }).click();
    await confirm(page, 'replicas: 3');
    await until(path('apps', 'statefulsets', 'db'), (found) => found.spec.replicas === 3);
  });

  test('a DaemonSet: how many nodes have it', async () => {
    await cluster.must('POST', path('apps', 'daemonsets'), workload('DaemonSet', 'agent', 'hello:1'));
    await status('apps', 'daemonsets', 'agent', { observedGeneration: 1, desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 2, numberAvailable: 1, numberReady: 1, numberMisscheduled: 0 });
    await open('#/k/apps/daemonsets/default/agent');
    await sees(page, '2 of 3 pods are of the newest revision.');
    await sees(page, '1 of 3 pods are ready.');
    expect(await page.getByRole('button', { name: 'Scale' }).count()).toBe(0);
    await changes(page, 'Restart', 'kubectl.kubernetes.io/restartedAt');
    await until(path('apps', 'daemonsets', 'agent'), (found) => found.spec.template.metadata.annotations?.['kubectl.kubernetes.io/restartedAt']);
    await accessible(page);
  });

  test('a CronJob is suspended, goes on, and runs out of turn; the Job says how far it is', async () => {
    const job = { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: 'print:1' }] } }, completions: 4 };
    await cluster.must('POST', path('batch', 'cronjobs'), { apiVersion: 'batch/v1', kind: 'CronJob', metadata: { name: 'nightly', namespace: 'default' }, spec: { schedule: '0 3 * * *', concurrencyPolicy: 'Forbid', jobTemplate: { spec: job } } });
    await open('#/k/batch/cronjobs/default/nightly');
    await page.getByRole('region', { name: 'Schedule' }).getByText('0 3 * * *').waitFor();
    await changes(page, 'Suspend', 'suspend: true');
    await sees(page, 'It is suspended: no run begins.');
    await changes(page, 'Resume', 'suspend: false');
    await page.getByText('It is suspended: no run begins.').waitFor({ state: 'detached' });
    await changes(page, 'Run now', 'cronjob.kubernetes.io/instantiate: manual');
    await page.getByRole('heading', { name: /^nightly-manual-/ }).waitFor();
    await sees(page, /owned by CronJob/);
    const { items } = await until(path('batch', 'jobs'), (found) => found.items?.length === 1);
    const { name } = items[0].metadata;
    expect(items[0].metadata.annotations['cronjob.kubernetes.io/instantiate']).toBe('manual');
    await status('batch', 'jobs', name, { startTime: new Date(Date.now() - 90_000).toISOString(), active: 2, succeeded: 1, failed: 1 });
    await page.getByRole('region', { name: 'Progress' }).getByText('1 of 4 done, 2 run, 1 failed.').waitFor();
    await shot(page, 'job');
    await accessible(page);
    await open('#/k/batch/cronjobs/default/nightly');
    await page.getByRole('region', { name: 'Runs' }).getByRole('row', { name: new RegExp(`${name} Running`) }).waitFor();
    await shot(page, 'cronjob');
    await accessible(page);
  });

  test('the logs of several pods in one, told apart, searched through', async () => {
    const chatty = workload('Deployment', 'chatty', 'print:1', { replicas: 2 });
    chatty.spec.template.spec.containers.push({ name: 'side', image: 'print:1' });
    await cluster.apply(path('apps', 'deployments'), chatty);
    const two = (found: Tree): boolean => new Set((found.items ?? []).filter((one: Tree) => one.status?.containerStatuses?.length === 2 && one.status.containerStatuses.every((state: Tree) => state.restartCount > 0)).map((one: Tree) => one.metadata.name)).size === 2;
    const { items } = await until(`${path('', 'pods')}?labelSelector=app%3Dchatty`, two);
    await open('#/k/apps/deployments/default/chatty?tab=logs');
    const log = page.getByRole('log');
    for (const { metadata } of items) for (const name of ['main', 'side']) await log.getByText(`${metadata.name}/${name}`).first().waitFor();
    await page.getByLabel('Search the log').fill('HELL');
    await log.locator('mark').first().waitFor();
    expect(await log.locator('mark').first().textContent()).toBe('hell');
    await shot(page, 'logs-several');
    await accessible(page);
    await page.getByLabel('Container').selectOption('side');
    await log.getByText(`${items[0].metadata.name}/side`).first().waitFor();
    expect(await log.getByText(/\/main$/).count()).toBe(0);
    // While it is paused a pod that comes writes nothing here; then it has.
    await page.getByRole('button', { name: 'Pause', exact: true }).last().click();
    await cluster.must('PATCH', `${path('apps', 'deployments', 'chatty')}/scale`, { spec: { replicas: 3 } }, { 'content-type': 'application/merge-patch+json' });
    const old = items.map((one: Tree) => one.metadata.name);
    const third = (await until(`${path('', 'pods')}?labelSelector=app%3Dchatty`, (found) => found.items?.some((one: Tree) => !old.includes(one.metadata.name) && one.status?.containerStatuses?.every((state: Tree) => state.restartCount > 0)))).items.find((one: Tree) => !old.includes(one.metadata.name)).metadata.name;
    await sees(page, /lines, paused/);
    expect(await log.getByText(`${third}/side`).count()).toBe(0);
    await page.getByRole('button', { name: 'Go on' }).click();
    await log.getByText(`${third}/side`).first().waitFor();
    const asked = page.waitForRequest((request) => request.url().includes(`/pods/${items[0].metadata.name}/log?`) && request.url().includes('previous=true'));
    await page.getByLabel('Previous run').check();
    await asked;
    await log.getByText(`${items[0].metadata.name}/side`).first().waitFor();
    await open('#/k/core/nodes');
    await cluster.must('DELETE', path('apps', 'deployments', 'chatty'));
  });

  test('a pod page shows what is used against what is requested and allowed', async () => {
    const { items } = await until(`${path('', 'pods')}?labelSelector=app%3Dhello`, (found) => found.items?.some((one: Tree) => one.status.phase === 'Running'));
    const { name } = items.find((one: Tree) => one.status.phase === 'Running').metadata;
    await until(`/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/${name}`, (found) => Boolean(found.containers?.[0]?.usage));
    await open(`#/k/core/pods/default/${name}`);
    await page.getByRole('region', { name: 'Container hello' }).getByText(/used, 4 MiB requested, limit 64 MiB/).waitFor();
    expect(await page.getByRole('region', { name: 'Container hello' }).getByRole('meter', { name: 'Memory' }).getAttribute('aria-valuenow')).toMatch(/^\d+$/);
    await page.getByText(/kubectl -n default port-forward pod\/hello-/).waitFor();
    await shot(page, 'pod');
    await accessible(page);
  });
});

describe('what belongs together', () => {
  test('from an Ingress to the pods, and who uses a ConfigMap', async () => {
    await cluster.apply('/apis/networking.k8s.io/v1/namespaces/default/ingresses', {
      apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', metadata: { name: 'front', namespace: 'default' },
      spec: { rules: [{ host: 'hello.example', http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'hello', port: { number: 80 } } } }] } }] },
    });
    await open('#/k/networking.k8s.io/ingresses/default/front?tab=graph');
    const link = (name: string | RegExp) => page.getByRole('link', { name, exact: true });
    for (const name of ['Ingress front', 'Service hello', 'Deployment hello', 'ConfigMap hello', 'Secret hello']) await link(name).waitFor();
    for (const kind of ['EndpointSlice', 'Pod', 'ReplicaSet']) await link(new RegExp(`^${kind} hello-`)).first().waitFor();
    await shot(page, 'graph-ingress');
    await accessible(page);
    for (const kind of ['configmaps', 'secrets']) {
      await open(`#/k/core/${kind}/default/hello?tab=graph`);
      await link('Deployment hello').waitFor();
      await link(/^Pod hello-/).first().waitFor();
    }
    // One goes on from there by a click.
    await link('Deployment hello').click();
    await page.getByRole('heading', { name: 'hello' }).waitFor();
    expect(page.url()).toBe(home('#/k/apps/deployments/default/hello'));
  });

  test('a table of one namespace, by a field', async () => {
    await open('#/k/core/configmaps?f=metadata.name%3Dhello');
    await expect.poll(() => rows(page)).toBe(1);
    await page.selectOption('#namespace', 'kube-system');
    await expect.poll(() => rows(page)).toBe(0);
    await page.selectOption('#namespace', '');
    await expect.poll(() => rows(page)).toBe(1);
  });
});

describe('why', () => {
  test.each([
    ['pending', pod('picky', 'hello:1', { nodeSelector: { disk: 'ssd' } }), /No node takes it: 1 node has not the labels that it asks for/],
    ['crashing', pod('crasher', 'exit:3'), /Container main ended with exit code 3/],
    ['not ready', pod('unready', 'hello:1', {}, { readinessProbe: { httpGet: { path: '/', port: 9 }, periodSeconds: 1 } }), /Container main runs, but its readiness probe fails/],
    ['without its Secret', pod('poor', 'hello:1', {}, { env: [{ name: 'X', valueFrom: { secretKeyRef: { name: 'absent', key: 'x' } } }] }), /needs the Secret absent, which does not exist/],
  ])('a pod is %s', async (_, object, words) => {
    const { name } = object.metadata;
    await cluster.must('POST', path('', 'pods'), object);
    await open(`#/k/core/pods/default/${name}`);
    await page.locator('[data-finding]').getByText(words).waitFor();
    await accessible(page);
    await cluster.must('DELETE', `${path('', 'pods', name)}?gracePeriodSeconds=0`);
  });

  test('a Deployment is not ready: as its pods are not', async () => {
    const object = workload('Deployment', 'unlucky', 'hello:1');
    object.spec.template.spec.containers[0].readinessProbe = { httpGet: { path: '/', port: 9 }, periodSeconds: 1 };
    await cluster.must('POST', path('apps', 'deployments'), object);
    await open('#/k/apps/deployments/default/unlucky');
    await page.locator('[data-finding]').getByText(/^0 of 1 pods are ready\. unlucky-\S+: Container main runs, but its readiness probe fails: nothing listens at /).waitFor();
    await page.locator('[data-finding]').getByText('See whether it listens where the probe asks, and read its logs.').waitFor();
    await cluster.must('DELETE', path('apps', 'deployments', 'unlucky'));
  });
});

describe('a node that runs out of memory and disk', () => {
  test('says so in the overview, in the table and on its page, with its taints', async () => {
    const condition = (type: string, status: string): Tree => ({ type, status, reason: 'Test', message: 'as the test says', lastHeartbeatTime: new Date().toISOString(), lastTransitionTime: new Date().toISOString() });
    await cluster.must('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'short' } });
    const found = { conditions: [condition('Ready', 'True'), condition('MemoryPressure', 'True'), condition('DiskPressure', 'True'), condition('PIDPressure', 'False')], allocatable: { cpu: '4', memory: '8Gi', pods: '110' } };
    await cluster.must('PATCH', '/api/v1/nodes/short/status', { status: found }, { 'content-type': 'application/merge-patch+json' });
    await until('/api/v1/nodes/short', (node) => ['memory', 'disk'].every((what) => node.spec.taints?.some((taint: Tree) => taint.key === `node.kubernetes.io/${what}-pressure`)));

    await open('#/');
    const wrong = page.getByRole('region', { name: 'What is wrong' });
    await wrong.getByText('It runs out of memory and evicts pods. It runs out of disk and evicts pods.').waitFor();
    const card = page.getByRole('region', { name: 'Node short' });
    for (const badge of ['Ready', 'MemoryPressure', 'DiskPressure']) await card.getByText(badge, { exact: true }).waitFor();
    await shot(page, 'node-pressure-overview');
    await accessible(page);

    await open('#/k/core/nodes');
    await page.getByRole('columnheader', { name: 'Pressure' }).waitFor();
    await page.getByRole('row', { name: /short Ready MemoryPressure, DiskPressure/ }).waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('diskpressure');
    await expect.poll(() => rows(page)).toBe(1);
    await accessible(page);
    await page.getByRole('row').getByRole('link', { name: 'short' }).click();

    await page.locator('[data-finding]').getByText(/It runs out of memory/).waitFor();
    await page.getByRole('region', { name: 'Node', exact: true }).getByText(/node\.kubernetes\.io\/memory-pressure:NoSchedule/).waitFor();
    await page.getByRole('region', { name: 'Node', exact: true }).getByText(/node\.kubernetes\.io\/disk-pressure:NoSchedule/).waitFor();
    await page.getByRole('region', { name: 'Conditions' }).getByRole('row', { name: /^MemoryPressure True/ }).waitFor();
    await shot(page, 'node-pressure');
    await accessible(page);

    // It gets well, and says nothing more.
    found.conditions = [condition('Ready', 'True'), condition('MemoryPressure', 'False'), condition('DiskPressure', 'False')];
    await cluster.must('PATCH', '/api/v1/nodes/short/status', { status: found }, { 'content-type': 'application/merge-patch+json' });
    await page.locator('[data-finding]').waitFor({ state: 'detached' });
    await page.getByRole('region', { name: 'Node', exact: true }).getByText('none', { exact: true }).waitFor();
    await cluster.must('DELETE', '/api/v1/nodes/short');
  });
});

describe('by keys alone', () => {
  test('from anywhere to an object, its views, and back', async () => {
    await open('#/');
    await page.getByRole('region', { name: 'Workloads' }).waitFor();
    await page.keyboard.press('Control+k');
    await page.keyboard.type('deployments');
    await page.getByRole('option', { name: /^Deployments/ }).waitFor();
    await shot(page, 'palette');
    await accessible(page);
    await page.keyboard.press('Enter');
    await page.getByRole('table', { name: 'Deployments' }).waitFor();
    await expect.poll(() => rows(page)).toBe(1);
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'hello' }).waitFor();
    for (const [key, tab] of [['o', 'graph'], ['l', 'logs'], ['y', 'yaml'], ['d', '']] as const) {
      // What reads keys itself keeps them.
      await page.getByRole('tab', { selected: true }).focus();
      await page.keyboard.press(key);
      await expect.poll(() => new URLSearchParams(page.url().split('?')[1] ?? '').get('tab') ?? '').toBe(tab);
    }
    await page.getByRole('tab', { name: 'Overview' }).focus();
    await page.keyboard.press('ArrowRight');
    await expect.poll(() => page.getByRole('tab', { selected: true }).textContent()).toBe('Logs');
    await page.keyboard.press('End');
    await expect.poll(() => page.evaluate(() => document.activeElement?.textContent)).toBe('YAML');
    await open('#/k/apps/deployments');
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keys' }).waitFor();
    await accessible(page);
    await page.keyboard.press('Escape');
    await page.getByRole('dialog', { name: 'Keys' }).waitFor({ state: 'detached' });
  });

  test('filter, choose and delete', async () => {
    for (const name of ['doomed-1', 'doomed-2', 'spared']) await cluster.apply(path('', 'configmaps'), { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' } });
    await open('#/k/core/configmaps');
    await expect.poll(() => rows(page)).toBeGreaterThan(2);
    await page.keyboard.press('/');
    await page.keyboard.type('doomed');
    await expect.poll(() => rows(page)).toBe(2);
    await page.keyboard.press('Enter');
    await page.keyboard.press('j');
    await page.keyboard.press('Control+d');
    const dialog = page.getByRole('dialog');
    await dialog.getByText('doomed-2').waitFor();
    await dialog.getByText('Nothing goes along.').waitFor();
    await accessible(page);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect(await rows(page)).toBe(2);
    await page.keyboard.press('Control+d');
    await dialog.getByText('Nothing goes along.').waitFor();
    await page.keyboard.press('Enter');
    await expect.poll(() => rows(page)).toBe(1);
    const left = (await cluster.must('GET', path('', 'configmaps'))).items.map((one: Tree) => one.metadata.name);
    expect(left).toEqual(expect.arrayContaining(['doomed-1', 'spared']));
    expect(left).not.toContain('doomed-2');
  });

  test('the first stop leads past the navigation', async () => {
    await open('#/k/core/nodes');
    await page.reload();
    await page.getByRole('table', { name: 'Nodes' }).waitFor();
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');
  });
});

describe('before anything changes', () => {
  const at = path('apps', 'deployments', 'careful');
  const dialog = () => page.getByRole('dialog');

  test('one sees what would, by keys: Escape leaves it, Enter applies it', async () => {
    await cluster.apply(path('apps', 'deployments'), workload('Deployment', 'careful', 'hello:1', { replicas: 1 }));
    const made = await until(at, (found) => found.status?.observedGeneration === 1);
    await open('#/k/apps/deployments/default/careful');
    const scale = page.getByRole('button', { name: 'Scale' });
    for (const [key, replicas] of [['Escape', 1], ['Enter', 2]] as const) {
      if (key === 'Escape') await scale.focus();
      // It has the focus again after the dialogs.
      else await expect.poll(() => scale.evaluate((button) => button === document.activeElement)).toBe(true);
      await page.keyboard.press('Enter');
      await page.getByRole('spinbutton').fill('2');
      await page.keyboard.press('Enter');
      await dialog().locator('.cm-changedLine').getByText('replicas: 2').waitFor();
      await dialog().locator('.cm-deletedChunk').getByText('replicas: 1').waitFor();
      expect((await cluster.must('GET', at)).metadata.generation).toBe(made.metadata.generation);
      await page.keyboard.press(key);
      await dialog().waitFor({ state: 'detached' });
      await until(at, (found) => found.spec.replicas === replicas);
    }
  });

  test('a refusal is said before, and nothing can be applied', async () => {
    await cluster.must('POST', '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies', {
      apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingAdmissionPolicy', metadata: { name: 'careful' },
      spec: {
        matchConstraints: { resourceRules: [{ apiGroups: ['apps'], apiVersions: ['v1'], operations: ['UPDATE', 'DELETE'], resources: ['deployments'], resourceNames: ['careful'] }] },
        validations: [{ expression: 'false', message: 'it is frozen until monday' }],
      },
    });
    await cluster.must('POST', '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings', {
      apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingAdmissionPolicyBinding', metadata: { name: 'careful' }, spec: { policyName: 'careful', validationActions: ['Deny'] },
    });
    await expect.poll(async () => (await cluster.ask('DELETE', `${at}?dryRun=All`)).code).toBe(422);
    for (const [button, act] of [['Restart', 'Apply'], ['Pause', 'Apply'], ['Delete', 'Delete']] as const) {
      await page.getByRole('button', { name: button, exact: true }).click();
      await dialog().getByRole('alert').getByText(/it is frozen until monday\.$/).waitFor();
      const apply = dialog().getByRole('button', { name: act });
      expect((await apply.isDisabled()) || (await apply.getAttribute('aria-disabled')) === 'true').toBe(true);
      await page.keyboard.press('Enter');
      if (await dialog().count()) await page.keyboard.press('Escape');
      await dialog().waitFor({ state: 'detached' });
    }
    expect((await cluster.must('GET', at)).spec.template.metadata.annotations).toBeUndefined();
    for (const plural of ['validatingadmissionpolicybindings', 'validatingadmissionpolicies']) await cluster.must('DELETE', `/apis/admissionregistration.k8s.io/v1/${plural}/careful`);
    await expect.poll(async () => (await cluster.ask('DELETE', `${at}?dryRun=All`)).code).toBe(200);
  });

  test('a deletion says what goes along, and what stays where it is left', async () => {
    await until(path('apps', 'replicasets'), (found) => found.items.some((one: Tree) => one.metadata.labels.app === 'careful' && one.status.replicas === 2));
    await page.getByRole('button', { name: 'Delete' }).click();
    const along = page.getByRole('region', { name: 'What goes along' });
    await along.getByText('3 objects go along:').waitFor();
    await along.getByRole('listitem').filter({ hasText: /^2 Pod careful-/ }).waitFor();
    await along.getByRole('listitem').filter({ hasText: /^1 ReplicaSet careful-/ }).waitFor();
    await shot(page, 'delete');
    await accessible(page);
    await page.getByLabel('Leave what it owns').check();
    await page.getByRole('region', { name: 'What stays' }).getByText('1 object stays, without its owner:').waitFor();
    await page.getByLabel('Leave what it owns').uncheck();
    await along.waitFor();
    await page.keyboard.press('Enter');
    await page.getByText('Deleted', { exact: true }).waitFor();
    await until(`${path('', 'pods')}?labelSelector=app%3Dcareful`, (found) => found.items?.every((one: Tree) => one.metadata.deletionTimestamp));
  });

  test('a namespace says what is in it', async () => {
    await cluster.must('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'leaving' } });
    for (let n = 0; n < 10; n++) await cluster.must('POST', '/api/v1/namespaces/leaving/configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `c-${n}` } });
    await open('#/k/core/namespaces/-/leaving');
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('region', { name: 'What goes along' }).getByRole('listitem').filter({ hasText: /^1[01] ConfigMap c-0, .* and [23] more$/ }).waitFor();
    await page.keyboard.press('Enter');
    await expect.poll(async () => (await cluster.ask('GET', '/api/v1/namespaces/leaving')).code).toBe(404);
  });
});

describe('every main page', () => {
  const PAGES = [
    '#/', '#/k/core/pods', '#/k/apps/deployments', '#/k/core/nodes', '#/k/core/events', '#/k/core/services/default/hello', '#/k/core/secrets/default/hello', '#/k/core/configmaps/default/hello?tab=yaml',
    '#/k/apps/statefulsets/default/db?tab=graph', '#/k/core/namespaces/-/default', '#/k/apiextensions.k8s.io/customresourcedefinitions', '#/new/core/configmaps', '#/deploy', '#/access', '#/k/nowhere/nothings', '#/k/core/pods/default/nobody',
  ];

  test.each(PAGES)('%s: axe finds nothing serious, in light and in dark', async (hash) => {
    await open(hash);
    await page.locator('main h1, main [role=alert]').first().waitFor();
    await expect.poll(() => page.getByText(/^(Reading|Loading)…$/).count()).toBe(0);
    await accessible(page);
    if (hash === '#/k/core/pods') await shot(page, 'pods');
  });

  test('all of them fit on a phone', async () => {
    await page.setViewportSize({ width: 390, height: 800 });
    const wide: string[] = [];
    for (const hash of [...PAGES, '#/k/apps/deployments/default/hello', '#/k/batch/cronjobs/default/nightly']) {
      await open(hash);
      await page.locator('main h1, main [role=alert]').first().waitFor();
      await expect.poll(() => page.getByText(/^(Reading|Loading)…$/).count()).toBe(0);
      const over = await page.evaluate(() => Math.max(document.documentElement.scrollWidth - innerWidth, document.getElementById('main')!.scrollWidth - document.getElementById('main')!.clientWidth));
      if (over > 0) wide.push(`${hash} by ${over}`);
    }
    await shot(page, 'phone-cronjob');
    await page.setViewportSize({ width: 1280, height: 800 });
    expect(wide).toEqual([]);
  });

  test('a useful screen is there within a second', async () => {
    const other = await admin.context.newPage();
    let best = Infinity;
    for (let n = 0; n < 3; n++) {
      await other.goto('about:blank');
      const begun = performance.now();
      await other.goto(home(), { waitUntil: 'commit' });
      await other.getByRole('region', { name: 'Workloads' }).getByText('Running').first().waitFor();
      best = Math.min(best, performance.now() - begun);
    }
    console.log(`the overview is there after ${Math.round(best)} ms`);
    expect(best).toBeLessThan(1000);
    await other.close();
  });

  test('a link leads to the same view in another window', async () => {
    await open('#/k/core/pods?q=hello&sort=-Name');
    await expect.poll(() => rows(page)).toBeGreaterThan(0);
    const count = await rows(page);
    const other = await admin.context.newPage();
    await other.goto(page.url());
    await expect.poll(() => rows(other)).toBe(count);
    expect(await other.getByRole('columnheader', { name: 'Name', exact: true }).getAttribute('aria-sort')).toBe('descending');
    await other.close();
  });

  test('who has gone elsewhere while something was applied stays there', async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    await page.route(/configmaps\/example\?(?!.*dryRun)/, async (route) => (await held, await route.continue()));
    await open('#/new/core/configmaps');
    await page.getByRole('button', { name: 'Review' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
    await open('#/k/core/nodes');
    await page.getByRole('table', { name: 'Nodes' }).waitFor();
    release();
    await sees(page, 'example is created.');
    expect(page.url()).toBe(home('#/k/core/nodes'));
    await page.unrouteAll();
  });

  test('a part that does not load is tried again', async () => {
    const other = await visit(browser, home(), { storageState: await admin.context.storageState() });
    await other.page.getByRole('region', { name: 'Workloads' }).waitFor();
    let refused = 0;
    await other.context.route(/GraphPage-[^/]*\.js/, (route) => (refused++ < 2 ? route.abort('connectionreset') : route.continue()));
    await open('#/k/apps/deployments/default/hello?tab=graph', other.page);
    await sees(other.page, /This part of the page does not load; trying again/);
    await other.page.getByRole('link', { name: 'Deployment hello', exact: true }).waitFor();
    expect(refused).toBeGreaterThanOrEqual(2);
    await other.context.close();
  });
});

describe('hostile output', () => {
  const evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>';
  const steering = '\u001b]0;owned\u0007\u001b[2J\u001b]8;;javascript:window.pwned=3\u001b\\link\u001b]8;;\u001b\\\u202e';

  test('in a log is text', async () => {
    await page.route(/\/pods\/[^/]*\/log\?/, (route) => route.fulfill({ contentType: 'text/plain', body: `2026-01-01T00:00:00.000000001Z ${evil}${steering}end\n` }));
    const { items } = await cluster.must('GET', `${path('', 'pods')}?labelSelector=app%3Dhello`);
    await open(`#/k/core/pods/default/${items[0].metadata.name}?tab=logs`);
    await page.getByRole('log').getByText(evil).waitFor();
    expect((await page.getByRole('log').locator('.line').first().textContent())?.trim()).toBe(`${evil}linkend`);
    await page.unrouteAll();
  });

  test('in a terminal steers nothing but the terminal', async () => {
    const { items } = await cluster.must('GET', `${path('', 'pods')}?labelSelector=app%3Dhello`);
    await open(`#/k/core/pods/default/${items[0].metadata.name}?tab=terminal`);
    await page.getByLabel('Command').fill(`echo "${steering}${evil.replaceAll('"', "'")}"`);
    await page.getByRole('button', { name: 'Connect', exact: true }).click();
    await page.getByRole('status').getByText('The command has ended.').waitFor();
    await page.locator('.xterm-rows').getByText(/onerror/).first().waitFor();
    expect(await page.title()).not.toContain('owned');
    expect(await page.evaluate('window.pwned')).toBeUndefined();
    expect(await page.locator('img[src=x]').count()).toBe(0);
    expect(admin.wrong).toEqual([]);
  });
});

describe('elsewhere', () => {
  /** A server that knows nothing of Wherry's own. */
  const stock = async (context: BrowserContext): Promise<void> => {
    await context.route('**/apis', async (route) => {
      const groups = (await cluster.ask('GET', '/apis', undefined, { accept: route.request().headers().accept ?? '' })).json;
      groups.items = groups.items.filter((group: Tree) => !group.metadata.name.endsWith('.wherry.dev'));
      await route.fulfill({ json: groups });
    });
    await context.route(/\/apis\/[^/]*\.wherry\.dev\//, (route) => route.fulfill({ status: 404, contentType: 'text/plain', body: '404 page not found' }));
  };

  test('it works against an API without the groups of Wherry', async () => {
    await cluster.apply('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata: { name: 'stranger' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' }, subjects: [{ kind: 'ServiceAccount', name: 'stranger', namespace: 'default' }],
    });
    const token = await cluster.token('default', 'stranger');
    const stranger = await visit(browser, home(), {}, stock);
    await stranger.page.getByLabel('Bearer token').fill(token);
    await stranger.page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await stranger.page.getByRole('region', { name: 'Workloads' }).waitFor();
    await stranger.page.getByRole('region', { name: /^Node / }).first().waitFor();
    for (const name of ['The last hour', 'WebAssembly']) expect(await stranger.page.getByRole('region', { name }).count()).toBe(0);
    expect(await stranger.page.getByRole('link', { name: 'Deploy a program' }).count()).toBe(0);
    const { items } = await until(`${path('', 'pods')}?labelSelector=app%3Dhello`, (found) => found.items?.some((one: Tree) => one.status.phase === 'Running'));
    const { name } = items.find((one: Tree) => one.status.phase === 'Running').metadata;
    await open(`#/k/core/pods/default/${name}`, stranger.page);
    await stranger.page.getByRole('region', { name: 'Container hello' }).getByText(/GET http/).waitFor();
    await open(`#/k/core/pods/default/${name}?tab=terminal`, stranger.page);
    await stranger.page.getByLabel('Command').fill('echo "by token"');
    await stranger.page.getByRole('button', { name: 'Connect', exact: true }).click();
    await stranger.page.locator('.xterm-rows').getByText('by token').waitFor();
    await open('#/k/apps/deployments/default/hello?tab=graph', stranger.page);
    await stranger.page.getByRole('link', { name: 'Service hello', exact: true }).waitFor();
    expect(stranger.wrong).toEqual([]);
    // The token was in memory alone.
    expect(await stranger.page.evaluate(() => [...Object.values(localStorage), ...Object.values(sessionStorage)].join(''))).not.toMatch(/eyJ/);
    await stranger.page.reload();
    await stranger.page.getByLabel('Bearer token').waitFor();
    await stranger.context.close();
  });

  test('a certificate that the browser has signs in by itself', async () => {
    const bearer = await visit(browser, home(), { clientCertificates: [{ origin: cluster.url, cert: cluster.certificate, key: cluster.key }] });
    await bearer.page.getByRole('region', { name: 'Workloads' }).waitFor();
    expect(await bearer.page.getByRole('button', { name: 'Sign out' }).getAttribute('title')).toBe('Signed in as kubernetes-admin');
    expect(await bearer.context.cookies()).toEqual([]);
    await bearer.context.close();
  });
});

describe('fifty nodes, of which twenty hang', () => {
  test('the overview is there at once, and says who is silent', async () => {
    // Takes connections and says nothing.
    let taken = 0;
    const silent = createServer(() => void taken++);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const names = Array.from({ length: 50 }, (_, n) => `fake-${String(n).padStart(2, '0')}`);
    for (const [n, name] of names.entries()) {
      await cluster.must('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: { unschedulable: true } });
      const found = { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }], daemonEndpoints: { kubeletEndpoint: { Port: n < 20 ? port : 9 } }, capacity: { cpu: '4', memory: '8Gi', pods: '110' }, allocatable: { cpu: '4', memory: '8Gi', pods: '110' } };
      await cluster.must('PATCH', `/api/v1/nodes/${name}/status`, { status: found }, { 'content-type': 'application/merge-patch+json' });
    }
    const hour = '/apis/runtime.wherry.dev/v1/clusters/current';
    let slowest = 0;
    for (let n = 0; n < 5; n++) {
      const begun = performance.now();
      const { status } = await cluster.must('GET', hour);
      slowest = Math.max(slowest, performance.now() - begun);
      expect(status.series[0].values.cpu.length).toBeGreaterThan(0);
      expect(status.silentNodes).toHaveLength(50);
    }
    console.log(`an hour of 51 nodes of which 50 are silent: ${Math.round(slowest)} ms at most`);
    expect(slowest).toBeLessThan(4000);
    expect(taken).toBeGreaterThan(0);
    await open('#/');
    await page.getByRole('region', { name: 'Nodes' }).getByText('1 of 51 ready').waitFor();
    await page.getByRole('region', { name: 'The last hour' }).getByText(/50 nodes do not answer/).waitFor();
    await page.getByRole('img', { name: /^CPU over the last hour/ }).waitFor();
    await shot(page, 'nodes-many');
    await accessible(page);
    silent.close();
    for (const name of names) await cluster.must('DELETE', `/api/v1/nodes/${name}`);
  });
});
