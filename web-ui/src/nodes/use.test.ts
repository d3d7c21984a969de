import { expect, test } from 'vitest';
import type { Column, Obj, Row } from '../api/types';
import { isReady, pressures, requests, use, withPressure, worst } from './use';

const pod = (cpu: string, phase = 'Running', init?: string): Obj => ({
  metadata: { name: 'p' },
  spec: { containers: [{ resources: { requests: { cpu } } }], ...(init ? { initContainers: [{ resources: { requests: { cpu: init } } }] } : {}) },
  status: { phase },
});

test('an init container may ask for more than the others', () => {
  expect(requests(pod('100m'), 'cpu')).toBeCloseTo(0.1);
  expect(requests(pod('100m', 'Running', '2'), 'cpu')).toBe(2);
});

test('pods that have ended take nothing', () => {
  const node: Obj = { metadata: { name: 'n' }, status: { allocatable: { cpu: '2', memory: '1Gi', pods: '110' } } };
  const [cpu, memory, pods] = use(node, [pod('500m'), pod('500m', 'Succeeded')]);
  expect([cpu!.words, memory!.words, pods!.words]).toEqual(['500m of 2', '0 B of 1 GiB', '1 of 110']);
});

test('nodes in trouble come first, then the fullest', () => {
  const row = (name: string, ready: boolean, used: number, short: string[] = []) => ({ name, ready, short, uses: [{ name: 'Pods', used, has: 10, words: '' }, { name: 'CPU', used: 0, has: 0, words: '' }] });
  expect(worst([row('a', true, 1), row('b', true, 9), row('c', false, 0), row('d', true, 0, ['DiskPressure'])]).map(({ name }) => name)).toEqual(['c', 'd', 'b', 'a']);
  expect([{ conditions: [{ type: 'Ready', status: 'True' }] }, { conditions: [{ type: 'Ready', status: 'Unknown' }] }, {}].map((status) => isReady({ metadata: { name: 'n' }, status }))).toEqual([true, false, false]);
});

test('what a node is short of stands beside its state', () => {
  const node = (name: string, ...conditions: [string, string][]): Obj => ({ metadata: { name }, status: { conditions: conditions.map(([type, status]) => ({ type, status })) } });
  const short = node('a', ['Ready', 'True'], ['DiskPressure', 'True'], ['MemoryPressure', 'True'], ['PIDPressure', 'False'], ['NetworkUnavailable', 'Unknown']);
  expect(pressures(short)).toEqual(['MemoryPressure', 'DiskPressure']);
  const columns = ['Name', 'Status', 'Age'].map((name): Column => ({ name, type: 'string', priority: 0 }));
  const row = (name: string): Row => ({ cells: [name, 'Ready', '1d'], object: { metadata: { name } } });
  const shown = withPressure(columns, [row('a'), row('b')], [short, node('b')]);
  expect(shown.columns.map(({ name }) => name)).toEqual(['Name', 'Status', 'Pressure', 'Age']);
  expect(shown.rows.map(({ cells }) => cells)).toEqual([['a', 'Ready', 'MemoryPressure, DiskPressure', '1d'], ['b', 'Ready', '', '1d']]);
  // Before the server has said what its columns are.
  expect(withPressure([], [], [short])).toEqual({ columns: [], rows: [] });
});
