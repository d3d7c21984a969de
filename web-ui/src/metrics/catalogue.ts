// Which figures of the last hour are shown, and how: one row each, in the order of the page. Pure.
import { bytes, cores } from '../ui/quantity';

export type Unit = 'cores' | 'bytes' | 'count' | 'perSecond' | 'seconds';

export interface Metric {
  /** As the server tells it. */
  name: string;
  label: string;
  unit: Unit;
  /** Figures of the same chart; its own label where there is none. */
  chart?: string;
  /** Of Wasm containers alone. */
  wasm?: boolean;
  /** There is no chart of it while it is nothing but zero. */
  quiet?: boolean;
  /** What pods request and are limited to. */
  resource?: 'cpu' | 'memory';
}

export const METRICS: Metric[] = [
  { name: 'cpu', label: 'CPU', unit: 'cores', resource: 'cpu' },
  { name: 'memory', label: 'Memory', unit: 'bytes', resource: 'memory' },
  { name: 'requests', label: 'Requests', unit: 'perSecond', wasm: true },
  { name: 'latencyP50', label: 'p50', unit: 'seconds', chart: 'Latency', wasm: true },
  { name: 'latencyP99', label: 'p99', unit: 'seconds', chart: 'Latency', wasm: true },
  { name: 'instances', label: 'Live instances', unit: 'count', wasm: true },
  { name: 'coldStarts', label: 'Cold starts', unit: 'perSecond', wasm: true },
  { name: 'traps', label: 'Traps', unit: 'perSecond', wasm: true, quiet: true },
  { name: 'code', label: 'Compiled code', unit: 'bytes', wasm: true },
];

export interface ChartOf {
  title: string;
  unit: Unit;
  metrics: Metric[];
}

/** The charts that some of the figures make. */
export function charts(metrics: Metric[]): ChartOf[] {
  const all = new Map<string, ChartOf>();
  for (const metric of metrics) {
    const title = metric.chart ?? metric.label;
    const chart = all.get(title) ?? { title, unit: metric.unit, metrics: [] };
    chart.metrics.push(metric);
    all.set(title, chart);
  }
  return [...all.values()];
}

/** What a figure is called where it stands alone. */
export function nameOf(metric: Metric): string {
  return metric.chart ? `${metric.chart} ${metric.label}` : metric.label;
}

/** A value as people read it. */
export function show(unit: Unit, value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '-';
  if (value === 0 && (unit === 'cores' || unit === 'seconds')) return '0';
  switch (unit) {
    case 'cores':
      return value > 0 && value < 0.001 ? `${short(value * 1000)}m` : cores(value);
    case 'bytes':
      return bytes(value);
    case 'count':
      return short(value);
    case 'perSecond':
      return `${short(value)}/s`;
    case 'seconds':
      return value < 0.001 ? `${short(value * 1e6)} µs` : value < 1 ? `${short(value * 1000)} ms` : `${short(value)} s`;
  }
}

/** Three digits at most before it is rounded. */
function short(value: number): string {
  if (value === 0) return '0';
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value < 0.01 ? value.toPrecision(1) : String(Number(value.toFixed(digits)));
}
