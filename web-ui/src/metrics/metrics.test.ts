import { describe, expect, test } from 'vitest';
import type { Obj } from '../api/types';
import { charts, METRICS, nameOf, show, type Unit } from './catalogue';
import { fitting, hasWasm, latest, lines, longest, marksOf, now, summary, times, type History } from './history';
import { runsWasm } from './pods';
import { madeBy, wit, type Program } from './wit';

const metric = (name: string) => METRICS.filter((one) => one.name === name);

const history: History = {
  since: '2026-01-01T00:00:00Z', end: 1000, stepSeconds: 15,
  series: [
    { name: 'web', values: { cpu: [0.1, null, 0.3], memory: [1, 2, 3], instances: [1, 1, 1], latencyP50: [null, null, 0.001], latencyP99: [null, null, 0.01] } },
    { name: 'log', values: { cpu: [0.5, null] } },
  ],
};

test.each<[Unit, number | null, string]>([
  ['cores', 0.00012, '0.12m'], ['cores', 0.25, '250m'], ['cores', 0, '0'], ['seconds', 0, '0'], ['bytes', 65536, '64 KiB'], ['count', 12, '12'], ['perSecond', 1234.5, '1235/s'],
  ['perSecond', 0.0667, '0.07/s'], ['perSecond', 0.0012, '0.001/s'], ['seconds', 0.00004, '40 µs'], ['seconds', 0.0123, '12.3 ms'], ['seconds', 2, '2 s'], ['seconds', null, '-'],
])('%s of %d are shown as %s', (unit, value, text) => expect(show(unit, value)).toBe(text));

describe('charts', () => {
  test('figures of one chart stand together, in the order of the table', () => {
    const found = charts(METRICS);
    expect(found.map(({ title }) => title)).toEqual(['CPU', 'Memory', 'Requests', 'Latency', 'Live instances', 'Cold starts', 'Traps', 'Compiled code']);
    expect(found[3]!.metrics.map(nameOf)).toEqual(['Latency p50', 'Latency p99']);
  });

  test('a figure of several containers has a line for each, and one for all', () => {
    expect(longest(history)).toBe(3);
    expect(times(history, 3)).toEqual([970, 985, 1000]);
    expect(lines(history, metric('cpu'))).toEqual([
      { label: 'all', values: [0.1, 0.5, 0.3] }, { label: 'web', values: [0.1, null, 0.3] }, { label: 'log', values: [null, 0.5, null] },
    ]);
    expect(lines(history, metric('cpu'), 'web')).toEqual([{ label: 'CPU', values: [0.1, null, 0.3] }]);
    expect(lines(history, metric('memory')).map(({ label }) => label)).toEqual(['Memory']);
    expect(lines(history, metric('nothing'))).toEqual([]);
  });

  test('a chart of two figures has a line for each', () => {
    const latency = charts(METRICS).find(({ title }) => title === 'Latency')!;
    expect(lines(history, latency.metrics, 'web').map(({ label }) => label)).toEqual(['p50', 'p99']);
  });

  test('marks that would press the lines flat are told and not drawn', () => {
    const [limit, requested] = [{ label: 'limit', value: 100 }, { label: 'requested', value: 2 }];
    expect(fitting([{ label: 'CPU', values: [1, null] }], [limit, requested])).toEqual({ drawn: [requested], top: 2.16 });
    expect(fitting([{ label: 'CPU', values: [0] }], [limit]).drawn).toEqual([limit]);
  });

  test('who does not see them is told', () => {
    const said = summary('CPU', [{ label: 'web', values: [3, 1, 2] }, { label: 'log', values: [null] }], String);
    expect(said).toBe('CPU over the last hour. web: now 2, between 1 and 3. log: nothing yet.');
  });
});

test('what is now is a sample of the last minute', () => {
  expect(latest([1, 2, null])).toBe(2);
  expect(latest([1, null, null, null, null])).toBeNull();
  expect(now(history, 'cpu')).toBe(0.8);
  expect(now(history, 'cpu', 'log')).toBe(0.5);
  expect(now(undefined, 'cpu')).toBeNull();
  expect([hasWasm(history), hasWasm({ series: [{ name: '', values: { cpu: [1] } }] }), hasWasm(undefined)]).toEqual([true, false, false]);
});

test('requests and limits of a pod are those of its containers together', () => {
  const container = (resources: object) => ({ resources });
  const pod = (...containers: object[]): Obj => ({ metadata: { name: 'a' }, spec: { containers } }) as unknown as Obj;
  expect(marksOf(pod(container({ requests: { cpu: '100m' }, limits: { cpu: '1' } }), container({ limits: { cpu: '2' } })), 'cpu')).toEqual([
    { label: 'requested', value: 0.1 }, { label: 'limit', value: 3 },
  ]);
  expect(marksOf(pod(container({ limits: { cpu: '1' } }), container({})), 'cpu')).toEqual([]);
});

describe('programs', () => {
  const program: Program = {
    digest: 'sha256:1', size: 10, kind: 'component', worlds: ['wasi:http/proxy@0.2.3'], imports: ['wasi:io/poll@0.2.3', 'wasi:cli/stdout@0.2.3'],
    exports: ['wasi:http/incoming-handler@0.2.3'], producers: { language: [{ name: 'Rust', version: '' }], 'processed-by': [{ name: 'rustc', version: '1.95' }] }, codeSize: 20,
  };

  test('a component is a world', () => {
    expect(wit(program)).toBe('world root {\n  import wasi:cli/stdout@0.2.3;\n  import wasi:io/poll@0.2.3;\n  export wasi:http/incoming-handler@0.2.3;\n}');
    expect(madeBy(program)).toBe('Rust, rustc 1.95');
  });

  test('a module has names alone', () => {
    expect(wit({ ...program, kind: 'module', imports: ['wasi_snapshot_preview1.fd_write'], exports: ['_start'] })).toBe('import wasi_snapshot_preview1.fd_write\nexport _start');
  });

  test('pods of Wasm are known by their containers', () => {
    const pod = (containerID: string, state: object): Obj => ({ metadata: { name: 'a' }, status: { containerStatuses: [{ containerID, state }] } }) as unknown as Obj;
    expect(runsWasm(pod('wherry://wasm-1', { running: {} }))).toBe(true);
    expect(runsWasm(pod('wherry://wasm-1', { terminated: {} }))).toBe(false);
    expect(runsWasm(pod('containerd://1', { running: {} }))).toBe(false);
  });
});
