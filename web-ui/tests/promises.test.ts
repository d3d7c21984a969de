// What the dashboard promises whatever one does with it: guarded from other sites, the same view by the same address, times and
// themes, nothing lost that was typed. Real Chromium against a real `wherry up`.
import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Tree } from '../src/api/types';
import { accessible, launch, rows, sees, shot, visit, type Visit } from './browser';
import { Cluster } from './cluster';

const cluster = new Cluster();
let browser: Browser;
let admin: Visit;
let page: Page;
/** A site of somebody else. */
let evil: Server;
let evilUrl = '';
let evilPage = '';

const home = (hash = '#/'): string => `${cluster.url}/ui/${hash}`;
const at = (group: string, plural: string, name = ''): string => `${group ? `/apis/${group}/v1` : '/api/v1'}/namespaces/default/${plural}${name && `/${name}`}`;
const configMap = (name: string, data: Record<string, string> = { key: 'value' }): Tree => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data });

async function open(hash: string, on = page): Promise<void> {
  await on.evaluate((wanted) => (location.hash = wanted), hash);
}

/** Another window of the same person. */
async function another(hash: string, options: BrowserContextOptions = {}): Promise<Visit> {
  return visit(browser, home(hash), { storageState: await admin.context.storageState(), ...options });
}

beforeAll(async () => {
  if (!process.env.WHERRY_BIN) throw new Error('WHERRY_BIN names the binary to test');
  await cluster.up();
  cluster.load('examples/hello/hello.wasm', 'hello:1');
  await cluster.applyHello();
  evil = createServer((_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(evilPage));
  await new Promise<void>((resolve) => evil.listen(0, '127.0.0.1', resolve));
  evilUrl = `http://127.0.0.1:${(evil.address() as AddressInfo).port}/`;
  browser = await launch();
  admin = await visit(browser, cluster.link);
  page = admin.page;
  await page.getByRole('region', { name: 'Workloads' }).waitFor();
});

afterAll(async () => {
  await browser?.close();
  evil?.close();
  await cluster.down();
});

describe('other sites', () => {
  test('cannot show it in a frame', async () => {
    evilPage = `<iframe src="${home()}"></iframe>`;
    const other = await admin.context.newPage();
    const refused = other.waitForEvent('console', (message) => /frame-ancestors|X-Frame-Options/i.test(message.text()));
    await other.goto(evilUrl);
    await refused;
    expect(await other.frames()[1]!.evaluate(() => document.body.innerText)).not.toContain('Cluster');
    await other.close();
  });

  test('cannot act as whoever is signed in', async () => {
    const body = JSON.stringify(configMap('forged'));
    const url = cluster.url + at('', 'configmaps');
    evilPage = `<form method="post" enctype="text/plain" action="${url}"><input name='${body.slice(0, -1)},"x":"' value='"}'><button>Win</button></form>`;
    const other = await admin.context.newPage();
    await other.goto(evilUrl);
    // By a request of a script, with whatever the browser has.
    await other.evaluate(([to, text]) => fetch(to!, { method: 'POST', mode: 'no-cors', credentials: 'include', body: text! }).catch(() => {}), [url, body]);
    const [answer] = await Promise.all([other.waitForResponse((response) => response.request().method() === 'POST'), other.getByRole('button').click()]);
    expect([401, 403]).toContain(answer.status());
    expect((await cluster.ask('GET', at('', 'configmaps', 'forged'))).code).toBe(404);
    await other.close();
  });

  test('get no script into the page, and the page sends nothing elsewhere', async () => {
    const own = await another('#/');
    await own.page.getByRole('region', { name: 'Workloads' }).waitFor();
    const tried = await own.page.evaluate(async () => {
      const attempt = async (act: () => unknown): Promise<string> => {
        try {
          await act();
          return 'done';
        } catch (error) {
          return (error as Error).name;
        }
      };
      const image = new Image();
      return {
        markup: await attempt(() => (document.body.innerHTML = '<img src=x onerror="window.pwned=1">')),
        inline: await attempt(() => (document.head.append(Object.assign(document.createElement('script'), { text: 'window.pwned=2' })))),
        handler: await attempt(() => (image.setAttribute('onerror', 'window.pwned=3'), (image.src = 'data:,x'), new Promise((resolve) => setTimeout(resolve, 200)))),
        // Not within this call, to which the page's policy does not apply.
        evaluated: await new Promise((resolve) => setTimeout(() => void attempt(() => (0, eval)('window.pwned=4')).then(resolve))),
        sent: await attempt(() => fetch('https://elsewhere.example/')),
      };
    });
    expect(tried).toEqual({ markup: 'TypeError', inline: 'TypeError', handler: expect.any(String), evaluated: 'EvalError', sent: 'TypeError' });
    expect(await own.page.evaluate('window.pwned')).toBeUndefined();
    expect(own.wrong.filter((what) => what.startsWith('request:'))).toEqual([]);
    await own.context.close();
  });
});

describe('what a browser keeps', () => {
  test('are the files, for ever or until they change; what the API says is nobody else\'s', async () => {
    const index = await cluster.ask('GET', '/ui/', undefined, {}, true);
    expect(index.headers['cache-control']).toBe('no-cache');
    const tag = String(index.headers.etag);
    expect((await cluster.ask('GET', '/ui/', undefined, { 'if-none-match': tag }, true)).code).toBe(304);
    const [, asset] = /src="\.\/(assets\/[^"]+\.js)"/.exec(index.text)!;
    const script = await cluster.ask('GET', `/ui/${asset}`, undefined, { 'accept-encoding': 'br' }, true);
    expect([script.headers['cache-control'], script.headers['content-encoding']]).toEqual(['public, max-age=31536000, immutable', 'br']);
    expect(script.headers.etag).toMatch(/^"\w+"$/);
    expect(String((await cluster.ask('GET', at('', 'secrets'))).headers['cache-control'])).toContain('private');
  });
});

describe('every view has an address', () => {
  let pod = '';
  beforeAll(async () => {
    pod = await vi.waitUntil(async () => (await cluster.must('GET', `${at('', 'pods')}?labelSelector=app%3Dhello`)).items.find((one: Tree) => one.status.phase === 'Running')?.metadata.name, { timeout: 60_000, interval: 250 });
  });

  const selected = (name: string) => (on: Page) => on.getByRole('tab', { name, selected: true });
  test.each<[string, (on: Page) => ReturnType<Page['locator']>]>([
    ['#/?ns=default', (on) => on.getByRole('heading', { name: 'default', level: 1 })],
    ['#/k/core/pods?ns=default', (on) => on.getByRole('table', { name: 'Pods' }).getByRole('link', { name: /^hello-/ }).first()],
    ['#/k/core/services?f=metadata.name%3Dhello&sort=-Name', (on) => on.getByRole('table').getByRole('link', { name: 'hello' })],
    ['#/k/core/nodes', (on) => on.getByRole('table', { name: 'Nodes' }).getByRole('link').first()],
    ['#/k/apps/deployments/default/hello', (on) => on.getByRole('region', { name: 'Rollout' })],
    ['#/k/apps/deployments/default/hello?tab=logs', selected('Logs')],
    ['#/k/apps/deployments/default/hello?tab=graph', (on) => on.getByRole('link', { name: 'Service hello', exact: true })],
    ['#/k/apps/deployments/default/hello?tab=yaml', (on) => on.getByRole('textbox', { name: 'YAML' })],
    ['#/k/core/pods/default/POD?tab=terminal', (on) => on.getByLabel('Command')],
    ['#/new/apps/deployments', (on) => on.getByRole('heading', { name: 'New Deployment' })],
    ['#/access?kind=secrets&ns=kube-system', (on) => on.getByText('in the namespace kube-system')],
    ['#/deploy', (on) => on.getByRole('heading', { name: 'Deploy a program' })],
  ])('%s', async (hash, shows) => {
    const other = await another(hash.replace('POD', pod));
    await shows(other.page).waitFor();
    // It stays the same address.
    expect(other.page.url()).toBe(home(hash.replace('POD', pod)));
    expect(other.wrong).toEqual([]);
    await other.context.close();
  });

  test('also of a namespace that one has chosen, and of all', async () => {
    await open('#/k/core/configmaps');
    await page.selectOption('#namespace', 'kube-system');
    await expect.poll(() => page.url()).toBe(home('#/k/core/configmaps?ns=kube-system'));
    // It is kept on the way, and comes along.
    await page.getByRole('link', { name: 'Secrets', exact: true }).click();
    await expect.poll(() => page.url()).toBe(home('#/k/core/secrets?ns=kube-system'));
    await page.getByRole('link', { name: 'Nodes', exact: true }).click();
    await expect.poll(() => page.url()).toBe(home('#/k/core/nodes'));
    // Whoever opens a link to all sees all, whatever was chosen there before.
    await page.goto('about:blank');
    await page.goto(home('#/k/core/configmaps'));
    await page.getByRole('table', { name: 'ConfigMaps' }).getByRole('link', { name: 'hello' }).waitFor();
    expect(await page.locator('#namespace').inputValue()).toBe('');
    await page.evaluate(() => localStorage.clear());
  });
});

describe('light and dark', () => {
  const theme = (on: Page): Promise<string | undefined> => on.evaluate(() => document.documentElement.dataset.theme);

  test('follow the system, or what one has chosen, which is remembered', async () => {
    const other = await another('#/', { colorScheme: 'dark' });
    await other.page.getByRole('region', { name: 'Workloads' }).waitFor();
    expect(await theme(other.page)).toBe('dark');
    await other.page.emulateMedia({ colorScheme: 'light' });
    await expect.poll(() => theme(other.page)).toBe('light');
    await other.page.emulateMedia({ colorScheme: 'dark' });
    await other.page.getByRole('button', { name: 'Theme: system' }).click();
    await expect.poll(() => theme(other.page)).toBe('light');
    await other.page.reload();
    await other.page.getByRole('button', { name: 'Theme: light' }).click();
    await expect.poll(() => theme(other.page)).toBe('dark');
    // By the palette as well.
    await other.page.keyboard.press('Control+k');
    await other.page.keyboard.type('theme: system');
    await other.page.keyboard.press('Enter');
    await other.page.getByRole('button', { name: 'Theme: system' }).waitFor();
    await other.context.close();
  });
});

describe('times', () => {
  test('are relative, and exact to who points at them or reads them aloud', async () => {
    const { metadata } = await cluster.must('GET', at('apps', 'deployments', 'hello'));
    await open('#/k/apps/deployments/default/hello');
    const made = page.locator('header.title time');
    await made.waitFor();
    expect(await made.textContent()).toMatch(/^\d+(s|m)(\d+s)? ago$/);
    expect(await made.getAttribute('datetime')).toBe(metadata.creationTimestamp);
    const exact = await page.evaluate((time) => new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' }), metadata.creationTimestamp);
    expect(await made.getAttribute('title')).toBe(exact);
    await open('#/k/apps/deployments?ns=default');
    await page.getByRole('cell', { name: /^\d+(s|m)/ }).last().waitFor();
    expect(await page.getByRole('row').nth(1).getByRole('cell').last().getAttribute('title')).toBe(exact);
    // They go on by themselves.
    const before = await page.getByRole('row').nth(1).getByRole('cell').last().textContent();
    await expect.poll(() => page.getByRole('row').nth(1).getByRole('cell').last().textContent(), { timeout: 90_000 }).not.toBe(before);
  });
});

describe('a terminal', () => {
  test('tells the container how large it is, and again when that changes', async () => {
    const { items } = await cluster.must('GET', `${at('', 'pods')}?labelSelector=app%3Dhello`);
    const sizes: { Width: number; Height: number }[] = [];
    page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => typeof payload !== 'string' && payload[0] === 4 && sizes.push(JSON.parse(payload.subarray(1).toString()))));
    await open(`#/k/core/pods/default/${items[0].metadata.name}?tab=terminal`);
    // What one finds there can be run.
    expect(await page.getByLabel('Command').inputValue()).toBe('ls -l /');
    await sees(page, /A Wasm container has no shell/);
    await page.getByLabel('Command').fill('cat');
    await page.getByRole('button', { name: 'Connect', exact: true }).click();
    await page.getByRole('status').getByText('Connected.').waitFor();
    await expect.poll(() => sizes.length).toBeGreaterThan(0);
    const first = sizes.at(-1)!;
    await page.setViewportSize({ width: 900, height: 600 });
    await expect.poll(() => sizes.at(-1)!.Width).toBeLessThan(first.Width);
    expect(sizes.at(-1)!.Height).toBeLessThan(first.Height);
    await page.setViewportSize({ width: 1280, height: 800 });
    await expect.poll(() => sizes.at(-1)).toEqual(first);
  });
});

describe('a field that others keep', () => {
  test('is named before one changes it', async () => {
    await cluster.apply(at('', 'configmaps'), configMap('kept', { colour: 'red' }), 'gardener');
    await open('#/k/core/configmaps/default/kept?tab=yaml');
    const editor = page.getByRole('textbox', { name: 'YAML' });
    await editor.getByText('red').dblclick();
    await page.keyboard.type('blue');
    await page.getByRole('button', { name: 'Review changes' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('.data.colour is set by gardener, who may set it back.').waitFor();
    await shot(page, 'kept');
    await accessible(page);
    await dialog.getByRole('button', { name: 'Leave it' }).click();
    expect((await cluster.must('GET', at('', 'configmaps', 'kept'))).data.colour).toBe('red');
  });
});

describe('what there is not', () => {
  test('an empty table says why it is empty', async () => {
    await open('#/k/batch/cronjobs?ns=default');
    await sees(page, 'There is no CronJob in the namespace default.');
    await open('#/k/core/configmaps?l=nobody%3Dhas&ns=');
    await sees(page, 'No ConfigMap fits the selectors.');
    await open('#/k/core/configmaps?q=nothing+like+it');
    await sees(page, /None of the \d+ fits the filter\./);
    await accessible(page);
  });

  test('who may not list a kind reads which right is missing, and no empty table', async () => {
    const token = await cluster.token('default', 'nobody');
    const nobody = await visit(browser, home('#/k/core/secrets'));
    await nobody.page.getByLabel('Bearer token').fill(token);
    await nobody.page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await nobody.page.getByRole('alert').filter({ hasText: /cannot list resource "secrets"/ }).waitFor();
    await sees(nobody.page, 'In a single namespace you may see more');
    expect(await nobody.page.getByRole('table').count()).toBe(0);
    await accessible(nobody.page);
    await nobody.context.close();
  });
});

describe('a crash of the server', () => {
  test('loses nothing that was typed: it can be applied when the server is back', async () => {
    await cluster.apply(at('', 'configmaps'), configMap('draft', { colour: 'red' }));
    await open('#/k/core/configmaps/default/draft?tab=yaml');
    const editor = page.getByRole('textbox', { name: 'YAML' });
    await editor.getByText('red').dblclick();
    await page.keyboard.type('green');
    // Another page has a table with a filter.
    const table = await another('#/k/core/configmaps?q=draft');
    await expect.poll(() => rows(table.page)).toBe(1);
    await cluster.kill();
    for (const on of [page, table.page]) await sees(on, /The server does not answer/);
    await page.getByRole('button', { name: 'Review changes' }).click();
    await page.getByRole('alert').getByText('The server does not answer.').waitFor();
    await page.keyboard.press('Control+End');
    await cluster.up();
    for (const on of [page, table.page]) await on.getByText(/The server does not answer\. What/).waitFor({ state: 'detached' });
    await editor.getByText('green').waitFor();
    await page.getByRole('button', { name: 'Review changes' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
    await sees(page, 'draft is changed.');
    expect((await cluster.must('GET', at('', 'configmaps', 'draft'))).data.colour).toBe('green');
    expect(await rows(table.page)).toBe(1);
    expect([...admin.wrong, ...table.wrong]).toEqual([]);
    await table.context.close();
  });
});
