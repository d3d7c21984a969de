// The last hour of something, as the server tells it, made into lines. Pure.
import type { Obj, Tree } from '../api/types';
import { quantity } from '../ui/quantity';
import type { Metric } from './catalogue';

/** `status` of a History. */
export interface History {
  since?: string | null;
  /** Of the last sample, in seconds. */
  end?: number;
  stepSeconds?: number;
  series: { name: string; values: Record<string, (number | null)[]> }[];
  silentNodes?: string[];
}

export interface Line {
  label: string;
  values: (number | null)[];
}

/** A level that is drawn across a chart. */
export interface Mark {
  label: string;
  value: number;
}

export const HOUR = 3600;

/** The times of so many samples, the last one last. */
export function times(history: History, samples: number): number[] {
  const [end, step] = [history.end ?? 0, history.stepSeconds ?? 15];
  return Array.from({ length: samples }, (_, at) => end - (samples - 1 - at) * step);
}

/** How many samples the longest figure has. */
export function longest(history: History): number {
  return Math.max(0, ...history.series.flatMap(({ values }) => Object.values(values).map((samples) => samples.length)));
}

/** Lines of a chart: one of each figure, and of a figure that containers add up to also one of each container. */
export function lines(history: History, metrics: Metric[], only?: string): Line[] {
  const length = longest(history);
  const series = history.series.filter(({ name }) => only === undefined || name === only);
  const of = (metric: Metric) => series.flatMap(({ name, values }) => (values[metric.name] ? [{ name, values: padded(values[metric.name]!, length) }] : []));
  if (metrics.length > 1) return metrics.flatMap((metric) => of(metric).map(({ name, values }) => ({ label: series.length > 1 ? `${name} ${metric.label}` : metric.label, values })));
  const [metric] = metrics;
  if (!metric) return [];
  const all = of(metric);
  if (all.length <= 1) return all.map(({ values }) => ({ label: metric.label, values }));
  const each = all.map(({ name, values }) => ({ label: name, values }));
  return [{ label: 'all', values: sum(all.map(({ values }) => values)) }, ...each];
}

function padded(samples: (number | null)[], length: number): (number | null)[] {
  return samples.length === length ? samples : [...Array<null>(length - samples.length).fill(null), ...samples];
}

function sum(all: (number | null)[][]): (number | null)[] {
  return (all[0] ?? []).map((_, at) => {
    const known = all.map((samples) => samples[at]).filter((sample) => sample !== null && sample !== undefined);
    return known.length > 0 ? known.reduce((total, sample) => total + sample, 0) : null;
  });
}

/** The last sample that there is, if it is one of the last minute's. */
export function latest(values: (number | null)[] | undefined): number | null {
  return values?.slice(-4).findLast((sample) => sample !== null) ?? null;
}

/** The newest sample of a figure, over all of a history. */
export function now(history: History | undefined, metric: string, only?: string): number | null {
  const series = (history?.series ?? []).filter(({ name }) => only === undefined || name === only);
  const found = series.map(({ values }) => latest(values[metric])).filter((sample) => sample !== null);
  return found.length > 0 ? found.reduce((total, sample) => total + sample, 0) : null;
}

/** Whether there is anything of Wasm in it. */
export function hasWasm(history: History | undefined): boolean {
  return (history?.series ?? []).some(({ values }) => values.instances);
}

/** What a chart says to those who do not see it. */
export function summary(title: string, lines: Line[], show: (value: number | null) => string): string {
  const said = lines.map(({ label, values }) => {
    const known = values.filter((value) => value !== null);
    if (known.length === 0) return `${label}: nothing yet`;
    return `${label}: now ${show(latest(values))}, between ${show(Math.min(...known))} and ${show(Math.max(...known))}`;
  });
  return `${title} over the last hour. ${said.join('. ')}.`;
}

/** The marks that can be drawn without pressing the lines flat, and the most that the chart shows. */
export function fitting(lines: Line[], marks: Mark[]): { drawn: Mark[]; top: number } {
  const most = Math.max(0, ...lines.flatMap(({ values }) => values.map((value) => value ?? 0)));
  const drawn = marks.filter(({ value }) => value > 0 && (most === 0 || value <= most * 20));
  return { drawn, top: Math.max(most, ...drawn.map(({ value }) => value)) * 1.08 };
}

/** What a pod's containers request and are limited to, together; a limit counts if all have one. */
export function marksOf(pod: Obj, resource: 'cpu' | 'memory'): Mark[] {
  const containers: Tree[] = pod.spec?.containers ?? [];
  const amounts = (of: 'requests' | 'limits'): number[] => containers.map((container) => quantity(container.resources?.[of]?.[resource]));
  const total = (all: number[]): number => all.reduce((sum, amount) => sum + amount, 0);
  const [requests, limits] = [amounts('requests'), amounts('limits')];
  return [
    ...(total(requests) > 0 ? [{ label: 'requested', value: total(requests) }] : []),
    ...(limits.length > 0 && limits.every((amount) => amount > 0) ? [{ label: 'limit', value: total(limits) }] : []),
  ];
}
