import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { connection } from './connection.svelte';
import { absorb, keyOfObject, objects, table } from './live.svelte';
import { sentence } from './client';
import { kindsOf, pathOf, pluralOf, resourceName, type Kind } from './discovery';
import type { Obj, Tree } from './types';

const object = (name: string, revision = '1'): Obj => ({ metadata: { name, namespace: 'a', resourceVersion: revision } });

/** A server whose answers the test writes, request by request. */
class Server {
  asked: string[] = [];
  private streams: ReadableStreamDefaultController<Uint8Array>[] = [];
  answers: ((url: URL) => Response | Promise<never>)[] = [];

  fetch = (path: string, init: RequestInit): Promise<Response> => {
    const url = new URL(path, 'https://x');
    this.asked.push(url.pathname + url.search);
    const next = this.answers.shift();
    if (next) return Promise.resolve(next(url));
    // Nothing was said: it does not answer.
    return new Promise((_, reject) => init.signal?.addEventListener('abort', () => reject(new Error('aborted'))));
  };

  list(items: Obj[], revision: string, more?: string): this {
    this.answers.push(() => Response.json({ kind: 'PodList', apiVersion: 'v1', metadata: { resourceVersion: revision, ...(more ? { continue: more } : {}) }, items }));
    return this;
  }

  watch(): this {
    this.answers.push(() => new Response(new ReadableStream({ start: (controller) => void this.streams.push(controller) })));
    return this;
  }

  fail(): this {
    this.answers.push(() => Promise.reject(new TypeError('network')));
    return this;
  }

  say(event: Tree): void {
    this.streams.at(-1)!.enqueue(new TextEncoder().encode(`${JSON.stringify(event)}\n`));
  }

  breakOff(): void {
    this.streams.at(-1)!.error(new TypeError('network'));
  }
}

let server: Server;
beforeEach(() => {
  server = new Server();
  vi.stubGlobal('fetch', server.fetch);
});
afterEach(() => vi.unstubAllGlobals());

const names = (live: { items: Obj[] }): string[] => live.items.map((item) => item.metadata.name);

test('a list by pages, then what changes', async () => {
  server.list([object('a')], '', 'next').list([object('b')], '10').watch();
  const live = objects('/api/v1/pods', { labels: 'app=x' });
  const stop = live.use();
  await vi.waitFor(() => expect(names(live)).toEqual(['a', 'b']));
  await vi.waitFor(() => expect(server.asked).toHaveLength(3));
  expect(server.asked[1]).toContain('continue=next');
  expect(server.asked[2]).toBe('/api/v1/pods?labelSelector=app%3Dx&watch=true&allowWatchBookmarks=true&resourceVersion=10');
  server.say({ type: 'ADDED', object: object('c', '11') });
  server.say({ type: 'DELETED', object: object('a', '12') });
  await vi.waitFor(() => expect(names(live)).toEqual(['b', 'c']));
  expect(live.items[0]!.kind).toBe('Pod');
  stop();
});

test('what was known stays while the server is away, and it goes on where it ended', async () => {
  server.list([object('a')], '10').watch();
  const live = objects('/api/v1/nodes');
  const stop = live.use();
  await vi.waitFor(() => expect(server.asked).toHaveLength(2));
  server.say({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '42' } } });
  server.fail().watch();
  server.breakOff();
  await vi.waitFor(() => expect(live.phase).toBe('away'));
  expect(names(live)).toEqual(['a']);
  await vi.waitFor(() => expect(live.phase).toBe('live'), { timeout: 5000 });
  expect(server.asked.at(-1)).toContain('resourceVersion=42');
  expect(connection.since).toBeNull();
  stop();
});

test('what is too old is listed anew', async () => {
  server.list([object('a')], '10').watch();
  const live = objects('/api/v1/services');
  const stop = live.use();
  await vi.waitFor(() => expect(server.asked).toHaveLength(2));
  server.list([object('b')], '50').watch();
  server.say({ type: 'ERROR', object: { kind: 'Status', code: 410, message: 'too old resource version' } });
  await vi.waitFor(() => expect(names(live)).toEqual(['b']), { timeout: 5000 });
  stop();
});

test('a refusal is told', async () => {
  server.answers.push(() => Response.json({ kind: 'Status', code: 403, message: 'secrets is forbidden' }, { status: 403 }));
  const live = objects('/api/v1/secrets');
  const stop = live.use();
  await vi.waitFor(() => expect([live.phase, live.error]).toEqual(['refused', 'Secrets is forbidden.']));
  stop();
});

test('one watch serves all who look, and ends with the last', async () => {
  server.list([], '1').watch();
  const [first, second] = [objects('/api/v1/events'), objects('/api/v1/events')];
  expect(first).toBe(second);
  const [stopFirst, stopSecond] = [first.use(), second.use()];
  await vi.waitFor(() => expect(server.asked).toHaveLength(2));
  stopFirst();
  expect(objects('/api/v1/events')).toBe(first);
  stopSecond();
  expect(objects('/api/v1/events')).not.toBe(first);
});

test('tables keep their columns', async () => {
  const row = (name: string): Tree => ({ cells: [name], object: object(name) });
  server.answers.push(() => Response.json({ kind: 'Table', metadata: { resourceVersion: '1' }, columnDefinitions: [{ name: 'Name', type: 'string', priority: 0 }], rows: [row('a')] }));
  server.watch();
  const live = table('/api/v1/configmaps');
  const stop = live.use();
  await vi.waitFor(() => expect(server.asked).toHaveLength(2));
  server.say({ type: 'MODIFIED', object: { kind: 'Table', columnDefinitions: [], rows: [row('b')] } });
  await vi.waitFor(() => expect(live.items).toHaveLength(2));
  expect(live.columns).toHaveLength(1);
  stop();
});

test('absorbing an event twice is absorbing it once', () => {
  const held = new Map<string, Obj>();
  for (let i = 0; i < 2; i++) expect(absorb(held, { type: 'ADDED', object: object('a', '7') }, (one) => [one], keyOfObject)).toBe('7');
  expect(held.size).toBe(1);
});

test.each([
  ['pods "x" not found', 'Pods "x" not found.'], ['the server is busy', 'The server is busy.'], ['Done!', 'Done!'], ['', 'The server gave no reason.'],
])('%j as a sentence', (text, said) => expect(sentence(text)).toBe(said));

test('discovery gives each kind once, in the preferred version', () => {
  const resource = (name: string): Tree => ({ resource: name, responseKind: { kind: 'Thing' }, scope: 'Namespaced', verbs: ['list'], subresources: [{ subresource: 'scale' }] });
  const kinds = kindsOf({ items: [{ metadata: { name: 'x.y' }, versions: [{ version: 'v2', resources: [resource('things')] }, { version: 'v1', resources: [resource('things'), resource('olds')] }] }] });
  expect(kinds.map((kind) => `${resourceName(kind)}/${kind.version}`)).toEqual(['things.x.y/v2', 'olds.x.y/v1']);
  expect(pathOf(kinds[0]!, 'a b', 'n/m', 'scale')).toBe('/apis/x.y/v2/namespaces/a%20b/things/n%2Fm/scale');
  expect(pathOf(kinds[0]!)).toBe('/apis/x.y/v2/things');
});

test.each([['Ingress', 'ingresses', 'Ingresses'], ['NetworkPolicy', 'networkpolicies', 'NetworkPolicies'], ['Endpoints', 'endpoints', 'Endpoints'], ['Pod', 'pods', 'Pods']])('many of %s', (kind, plural, many) => {
  expect(pluralOf({ kind, plural } as Kind)).toBe(many);
});
