import { expect, test } from 'vitest';
import type { Obj, Status } from '../api/types';
import { addresses, objectsFor, serves } from './generate';
import { next, parse, problem, suggest } from './name';
import { isWasm, lacking } from './upload';

test.each([
  ['hello.wasm', 'hello:1'],
  ['C:\\build\\Hello World.v2.WASM', 'hello-world-v2:1'],
  ['42.wasm', 'program:1'],
  ['9lives--.wasm', 'lives:1'],
  [`${'a'.repeat(62)}-b.wasm`, `${'a'.repeat(62)}:1`],
])('%s suggests %s', (file, name) => {
  expect(suggest(file)).toBe(name);
  expect(problem(suggest(file))).toBe('');
});

test.each(['', 'Hello:1', '1a:1', 'a/b:1', 'a:b:c', 'a:', '-a', 'a-', 'a.b', 'a'.repeat(64)])('%s is no name', (name) => {
  expect(problem(name)).not.toBe('');
});

test('tags', () => {
  expect(parse('hello')).toEqual({ name: 'hello', tag: 'latest' });
  expect(problem('hello:V1.0_rc-2')).toBe('');
  expect(next('hello:1', ['hello:1', 'hello:2', 'other:3'])).toBe('hello:3');
  expect(next('hello:1', [])).toBe('hello:1');
  expect(next('hello:latest', ['hello:latest'])).toBe('hello:1');
});

const http = { worlds: ['wasi:http/proxy@0.2.3'] };
const command = { worlds: ['wasi:cli/command@0.2.0'] };

test('what serves is deployed behind a Service, what ends is a Job', () => {
  expect(serves(http)).toBe(true);
  const [deployment, service] = objectsFor('wherry.internal/team/hello:1', 'team', 'hello:1', http);
  expect(deployment!.spec.template.spec.containers[0]).toMatchObject({ name: 'hello', image: 'wherry.internal/team/hello:1' });
  expect(deployment!.spec.selector.matchLabels).toEqual(service!.spec.selector);
  expect(service!.spec.ports[0].targetPort).toBe(deployment!.spec.template.spec.containers[0].ports[0].name);
  expect([deployment, service].map((object) => object!.metadata.namespace)).toEqual(['team', 'team']);
  const jobs = objectsFor('wherry.internal/team/tool:1', 'team', 'tool:1', command);
  expect(jobs.map((job) => [job.kind, job.spec.template.spec.restartPolicy])).toEqual([['Job', 'Never']]);
});

test('where a Service answers', () => {
  const service: Obj = { metadata: { name: 'hello', namespace: 'team' }, spec: { clusterIP: '10.96.0.9', ports: [{ port: 80, nodePort: 30080 }, { port: 8443 }] }, status: {} };
  expect(addresses(service).map(({ url }) => url)).toEqual([
    'http://hello.team.svc.cluster.local/',
    'http://10.96.0.9/',
    'http://NODE:30080/',
    'http://hello.team.svc.cluster.local:8443/',
    'http://10.96.0.9:8443/',
  ]);
  const none: Obj = { metadata: { name: 'h', namespace: 't' }, spec: { clusterIP: 'None', ports: [{ port: 80 }] } };
  expect(addresses(none)).toHaveLength(1);
});

test('a refusal names what is missing', () => {
  const status: Status = { kind: 'Status', details: { causes: [{ field: 'imports[acme:billing/api@1.0.0]' }, { field: 'name' }] } };
  expect(lacking(status)).toEqual(['acme:billing/api@1.0.0']);
  expect(lacking(undefined)).toEqual([]);
});

test('only what begins as Wasm does is sent', async () => {
  expect(await isWasm(new Blob([new Uint8Array([0, 0x61, 0x73, 0x6d, 1])]))).toBe(true);
  expect(await isWasm(new Blob(['#!/bin/sh']))).toBe(false);
  expect(await isWasm(new Blob([]))).toBe(false);
});
