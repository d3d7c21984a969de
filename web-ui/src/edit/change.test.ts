import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Kind } from '../api/discovery';
import type { Obj, Tree } from '../api/types';
import { created, patched, scaled } from './change';

const kind: Kind = { group: 'apps', version: 'v1', plural: 'deployments', kind: 'Deployment', singular: 'deployment', shortNames: [], verbs: [], namespaced: true, categories: [], subresources: ['scale'] };
const web: Obj = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace: 'a' }, spec: { replicas: 1, paused: false } };
const words = { title: 'Change web', done: 'web is changed.' };

let asked: { method: string; path: string; body: Tree; type: string }[];
let answers: Response[];
beforeEach(() => {
  [asked, answers] = [[], []];
  vi.stubGlobal('fetch', async (path: string, init: RequestInit) => {
    asked.push({ method: init.method!, path, body: JSON.parse(String(init.body)), type: (init.headers as Record<string, string>)['Content-Type']! });
    return answers.shift();
  });
});
afterEach(() => vi.unstubAllGlobals());

test('nothing is changed until one has seen what would be', async () => {
  const after = { ...web, spec: { replicas: 1, paused: true } };
  answers = [Response.json(after), Response.json(after)];
  const change = patched(kind, web, { spec: { paused: true } }, words);
  expect(change).toMatchObject({ ...words, before: web });
  expect(await change.after).toEqual(after);
  const path = '/apis/apps/v1/namespaces/a/deployments/web?fieldManager=wherry-ui';
  expect(asked).toEqual([{ method: 'PATCH', path: `${path}&dryRun=All`, body: { spec: { paused: true } }, type: 'application/merge-patch+json' }]);
  await change.apply();
  expect(asked[1]).toEqual({ ...asked[0], path });
});

test('a refusal is a sentence', async () => {
  answers = [Response.json({ kind: 'Status', code: 403, message: 'deployments.apps "web" is forbidden: not today' }, { status: 403 })];
  await expect(patched(kind, web, {}, words).after).rejects.toThrow('deployments.apps "web" is forbidden: not today.');
});

test('scaling shows the object, and believes what the server says', async () => {
  answers = [Response.json({ kind: 'Scale', metadata: web.metadata, spec: { replicas: 3 } })];
  const change = scaled(kind, web, 5, words);
  expect(await change.after).toEqual({ ...web, spec: { replicas: 3, paused: false } });
  expect(asked).toMatchObject([{ path: '/apis/apps/v1/namespaces/a/deployments/web/scale?fieldManager=wherry-ui&dryRun=All', body: { spec: { replicas: 5 } } }]);
  // None is what the server leaves out.
  answers = [Response.json({ kind: 'Scale', metadata: web.metadata, spec: {} })];
  expect((await scaled(kind, web, 0, words).after).spec.replicas).toBe(0);
});

test('what is made comes of nothing', async () => {
  answers = [Response.json(web)];
  expect(created(kind, web, words).before).toBeNull();
  expect(asked).toMatchObject([{ method: 'POST', path: '/apis/apps/v1/namespaces/a/deployments?fieldManager=wherry-ui&dryRun=All', body: web }]);
});
