// Programs that people bring, and people who come from an issuer: real Chromium against a real `wherry up`.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Tree } from '../src/api/types';
import { accessible, launch, rows, sees, shot, visit, type Visit } from './browser';
import { Cluster } from './cluster';
import { Issuer } from './issuer';

const ROOT = new URL('../..', import.meta.url).pathname;
const HELLO = join(ROOT, 'examples/hello/hello.wasm');
const PORT = Number(process.env.WHERRY_PORT ?? 16443);
const issuer = new Issuer(PORT + 1, `https://127.0.0.1:${PORT}/ui/`);
const cluster = new Cluster([
  `--oidc-issuer-url=${issuer.url}`, `--oidc-client-id=${issuer.client}`, `--oidc-ca-file=${issuer.ca}`, '--oidc-username-prefix=oidc:', '--oidc-signing-algs=ES256',
  '--image-size-limit=9Mi',
  `--ui-oidc-client-id=${issuer.client}`, `--ui-oidc-client-secret-file=${issuer.secretFile}`, `--ui-oidc-redirect-url=https://127.0.0.1:${PORT}/ui/`,
]);
const IMAGES = '/apis/registry.wherry.dev/v1/namespaces/default/images';
const scratch = mkdtempSync(join(tmpdir(), 'wherry-programs-'));
let browser: Browser;
let admin: Visit;
let page: Page;

const home = (hash = '#/'): string => `${cluster.url}/ui/${hash}`;
const images = async (): Promise<string[]> => (await cluster.must('GET', IMAGES)).items.map((image: Tree) => image.metadata.name);
const uploads = (): number => readdirSync(join(cluster.directory, 'data/registry/uploads')).length;

async function open(on: Page, hash: string): Promise<void> {
  await on.evaluate((wanted) => (location.hash = wanted), hash);
}

beforeAll(async () => {
  if (!process.env.WHERRY_BIN) throw new Error('WHERRY_BIN names the binary to test');
  await issuer.up();
  await cluster.up();
  browser = await launch();
  admin = await visit(browser, cluster.link);
  page = admin.page;
  await page.getByRole('region', { name: 'Workloads' }).waitFor();
});

afterAll(async () => {
  await browser?.close();
  await cluster.down();
  await issuer.down();
  rmSync(scratch, { recursive: true, force: true });
});

describe('a program', () => {
  test('is uploaded, reviewed, applied, and answers', async () => {
    await page.getByRole('link', { name: 'Deploy a program' }).click();
    await page.locator('#program').setInputFiles(HELLO);
    await expect.poll(() => page.getByLabel('Name', { exact: true }).inputValue()).toBe('hello:1');
    await shot(page, 'deploy-upload');
    await page.getByRole('button', { name: /^Upload/ }).click();
    await page.getByRole('region', { name: 'Service' }).getByLabel('YAML').waitFor();
    await sees(page, 'wherry.internal/default/hello:1');
    await sees(page, /a component for wasi:http\/proxy/);
    await shot(page, 'deploy-review');
    await accessible(page);
    // What was generated can be changed first.
    const editor = page.getByRole('region', { name: 'Deployment' }).getByLabel('YAML');
    await editor.getByText('replicas: 1').click();
    await page.keyboard.press('End');
    await page.keyboard.press('Backspace');
    await page.keyboard.type('2');
    await page.getByRole('button', { name: 'Review' }).click();
    const dialog = page.getByRole('dialog');
    await expect.poll(() => dialog.locator('[data-diff]').count()).toBe(2);
    await sees(page, 'replicas: 2');
    await shot(page, 'deploy-diff');
    await accessible(page);
    await dialog.getByRole('button', { name: 'Apply' }).click();
    await page.locator('[data-answered]').waitFor();
    await sees(page, /It answers: 200/);
    await sees(page, 'All 2 pods are of the newest revision and available.');
    await sees(page, 'http://hello.default.svc.cluster.local/');
    await shot(page, 'deploy-running');
    await accessible(page);
    const [field] = (await cluster.must('GET', '/apis/apps/v1/namespaces/default/deployments/hello')).metadata.managedFields;
    expect([field.manager, field.operation]).toEqual(['wherry-ui', 'Apply']);
    expect(admin.wrong).toEqual([]);
  });

  test('is listed, described and deployed from where it is', async () => {
    await open(page, '#/k/registry.wherry.dev/images');
    await expect.poll(() => rows(page)).toBe(1);
    await shot(page, 'images');
    await page.getByRole('link', { name: 'hello:1' }).click();
    await page.getByRole('region', { name: 'Program' }).waitFor();
    await sees(page, /component for wasi:http\/proxy/);
    await shot(page, 'image');
    await accessible(page);
    await page.getByRole('link', { name: 'Deploy', exact: true }).click();
    await page.getByRole('region', { name: 'Deployment' }).waitFor();
    // Another of the same name gets the next tag.
    await page.locator('#program').setInputFiles(HELLO);
    await expect.poll(() => page.getByLabel('Name', { exact: true }).inputValue()).toBe('hello:2');
  });

  test('shows how far it is, and leaves nothing when it is given up', async () => {
    const large = join(scratch, 'large.wasm');
    // A custom section of eight mebibytes after a program.
    const section = Buffer.concat([Buffer.from([0, 0x85, 0x80, 0x80, 4, 4]), Buffer.from('junk'), Buffer.alloc(8 * 2 ** 20)]);
    writeFileSync(large, Buffer.concat([readFileSync(HELLO), section]));
    const throttle = await admin.context.newCDPSession(page);
    const slow = { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 512 * 1024 };
    await throttle.send('Network.enable');
    await throttle.send('Network.emulateNetworkConditions', slow);
    await open(page, '#/deploy');
    await page.locator('#program').setInputFiles(large);
    await page.getByRole('button', { name: /^Upload 8/ }).click();
    const bar = page.getByRole('progressbar', { name: 'Upload' });
    await expect.poll(async () => Number(await bar.getAttribute('aria-valuenow')), { timeout: 30_000 }).toBeGreaterThan(5);
    await shot(page, 'deploy-progress');
    await page.getByRole('button', { name: 'Give up' }).click();
    await bar.waitFor({ state: 'detached' });
    await throttle.send('Network.emulateNetworkConditions', { ...slow, uploadThroughput: -1 });
    await throttle.detach();
    await expect.poll(uploads, { timeout: 30_000 }).toBe(0);
    expect(await images()).toEqual(['hello:1']);
  });

  test('that cannot run is refused with what it lacks, by name', async () => {
    await page.locator('#program').setInputFiles(join(ROOT, 'tests/workloads/missing-import.wasm'));
    await page.getByRole('button', { name: /^Upload/ }).click();
    const alert = page.getByRole('alert').filter({ hasText: 'It was not stored' });
    await alert.waitFor();
    expect(await alert.locator('li').count()).toBeGreaterThan(0);
    await shot(page, 'deploy-refused');
    await accessible(page);
    await page.locator('#program').setInputFiles(join(ROOT, 'README.md'));
    await sees(page, /README\.md is no Wasm binary/);
    // What is too large is refused before all of it has been sent.
    const huge = join(scratch, 'huge.wasm');
    writeFileSync(huge, Buffer.concat([readFileSync(HELLO), Buffer.alloc(12 * 2 ** 20)]));
    await page.locator('#program').setInputFiles(huge);
    await page.getByRole('button', { name: /^Upload 12/ }).click();
    await sees(page, /an image may have 9 MiB/);
    expect(await images()).toEqual(['hello:1']);
  });

  test('is not uploaded by who may not, and the way there is hidden where nothing is kept', async () => {
    const token = await cluster.token('default', 'reader');
    await cluster.apply('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata: { name: 'reader' }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' }, subjects: [{ kind: 'ServiceAccount', name: 'reader', namespace: 'default' }] });
    const reader = await visit(browser, home());
    await reader.page.getByLabel('Bearer token').fill(token);
    await reader.page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await reader.page.getByRole('link', { name: 'Deploy a program' }).click();
    await reader.page.locator('#program').setInputFiles(HELLO);
    const button = reader.page.getByRole('button', { name: /^Upload/ });
    await expect.poll(() => button.getAttribute('title')).toBe('You may not: the verb “create” on images.registry.wherry.dev in the namespace default is missing.');
    expect(await button.getAttribute('aria-disabled')).toBe('true');
    expect(reader.wrong).toEqual([]);
    // As on a server without the registry.
    await reader.context.route('**/apis', async (route) => {
      const groups = (await cluster.ask('GET', '/apis', undefined, { accept: route.request().headers().accept ?? '' })).json;
      groups.items = groups.items.filter((group: Tree) => group.metadata.name !== 'registry.wherry.dev');
      await route.fulfill({ json: groups });
    });
    await reader.page.reload();
    await reader.page.getByRole('link', { name: 'Who can what' }).waitFor();
    expect(await reader.page.getByRole('link', { name: 'Deploy a program' }).count()).toBe(0);
    await reader.context.close();
  });
});

describe('signing in at an issuer', () => {
  const enter = async (one: Visit): Promise<void> => {
    await one.page.getByRole('button', { name: `Sign in with localhost:${PORT + 1}` }).click();
    await one.page.getByRole('link', { name: 'It is me' }).waitFor();
  };
  let ann: Visit;

  beforeAll(async () => {
    await cluster.apply('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata: { name: 'ann' }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' }, subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'oidc:ann' }] });
  });

  test('leads there and back to the view that was left', async () => {
    issuer.lifetime = 25;
    ann = await visit(browser, home('#/k/core/pods'));
    await ann.page.getByRole('button', { name: /^Sign in with/ }).waitFor();
    await shot(ann.page, 'sign-in-issuer');
    await accessible(ann.page);
    await enter(ann);
    await ann.page.getByRole('link', { name: 'It is me' }).click();
    await ann.page.getByRole('button', { name: 'Sign out' }).waitFor();
    expect(ann.page.url()).toBe(home('#/k/core/pods'));
    expect(await ann.page.getByRole('button', { name: 'Sign out' }).getAttribute('title')).toBe('Signed in as oidc:ann');
    const cookies = await ann.context.cookies();
    expect(cookies.map(({ name }) => name).sort()).toEqual(['__Host-wherry-refresh', '__Host-wherry-session']);
    expect(cookies.every(({ httpOnly, secure, sameSite, path }) => httpOnly && secure && sameSite === 'Strict' && path === '/')).toBe(true);
    expect(await ann.page.evaluate(() => [document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].join(''))).not.toMatch(/eyJ/);
    // Nothing went elsewhere but the browser itself, to the issuer.
    expect(ann.wrong.filter((what) => !what.startsWith(`request: ${issuer.url}/`))).toEqual([]);
  });

  test('is renewed before it ends, and after', async () => {
    await expect.poll(() => issuer.asked.filter((what) => what === 'refresh_token: given').length, { timeout: 60_000 }).toBeGreaterThan(0);
    expect(await ann.page.getByRole('button', { name: 'Sign out' }).count()).toBe(1);
    await open(ann.page, '#/k/core/services');
    await expect.poll(() => rows(ann.page)).toBeGreaterThan(0);
    // A page that was closed while the token ended goes on as well.
    await ann.page.goto('about:blank');
    const [, claims] = [0, Date.now() + issuer.lifetime * 1000];
    await vi.waitUntil(() => Date.now() > claims, { timeout: 60_000 });
    await ann.page.goto(home());
    await ann.page.getByRole('button', { name: 'Sign out' }).waitFor();
  });

  test('counts in the browser that began it alone', async () => {
    const begun = await visit(browser, home());
    await enter(begun);
    const back = (await begun.page.getByRole('link', { name: 'It is me' }).getAttribute('href'))!;
    const other = await visit(browser, back);
    await sees(other.page, /No sign-in was begun in this browser/);
    expect(other.page.url()).toBe(home());
    // With a sign-in of its own it is still not that one.
    await enter(other);
    await other.page.goto(back);
    await sees(other.page, /another sign-in that comes back/);
    await other.context.close();
    await begun.page.getByRole('link', { name: 'Not me' }).click();
    await sees(begun.page, /The issuer has not signed you in: Ann said no/);
    await begun.context.close();
  });

  test('ends when asked, and when the issuer wants no more of it', async () => {
    issuer.revoked = true;
    await expect.poll(() => ann.page.getByRole('button', { name: /^Sign in with/ }).count(), { timeout: 90_000 }).toBe(1);
    await sees(ann.page, /sign in again/);
    [issuer.revoked, issuer.lifetime] = [false, 3600];
    await enter(ann);
    await ann.page.getByRole('link', { name: 'It is me' }).click();
    await ann.page.getByRole('button', { name: 'Sign out' }).click();
    const elsewhere = ann.page.getByRole('link', { name: `sign out of localhost:${PORT + 1}` });
    await elsewhere.waitFor();
    expect(await elsewhere.getAttribute('href')).toContain(`${issuer.url}/logout?client_id=${issuer.client}`);
    expect(await ann.context.cookies()).toEqual([]);
    await ann.page.reload();
    await ann.page.getByLabel('Bearer token').waitFor();
    await ann.context.close();
  });
});
