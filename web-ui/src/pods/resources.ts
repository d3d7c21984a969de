// What a container uses against what it requests and is limited to. Pure.
import type { Tree } from '../api/types';
import { bytes, cores, quantity } from '../ui/quantity';

export interface Bar {
  name: string;
  words: string;
  /** Null where nobody has measured. */
  used: number | null;
  /** The limit, or else what is requested; 0 where there is neither. */
  most: number;
  /** It uses more than it requests, or nearly all that it may. */
  high: boolean;
}

const LABELS: Record<string, string> = { cpu: 'CPU', memory: 'Memory' };
const show = (name: string, value: number): string => (name === 'cpu' ? cores(value) : bytes(value));

/** A bar for CPU and memory each, and one for whatever else is requested or limited. */
export function bars(resources: Tree, usage: Tree | undefined): Bar[] {
  const { requests = {}, limits = {} } = resources;
  const names = [...new Set(['cpu', 'memory', ...Object.keys(requests), ...Object.keys(limits)])];
  return names.flatMap((name) => {
    const [request, limit] = [requests[name], limits[name]].map((text) => (text === undefined ? null : quantity(text)));
    const used = usage?.[name] === undefined ? null : quantity(usage[name]);
    if (request === null && limit === null && used === null) return [];
    const plain = !(name in LABELS);
    const of = (value: number, text: string): string => (plain ? text : show(name, value));
    const bound = [
      request === null ? '' : `${of(request!, requests[name])} requested`,
      limit === null ? 'no limit' : `limit ${of(limit!, limits[name])}`,
    ].filter(Boolean);
    const most = limit ?? request ?? 0;
    return [{
      name: LABELS[name] ?? name,
      words: [used === null ? '' : `${show(name, used)} used`, ...bound].filter(Boolean).join(', '),
      used,
      most,
      high: used !== null && (limit !== null ? used > 0.9 * limit! : request !== null && used > request!),
    }];
  });
}
