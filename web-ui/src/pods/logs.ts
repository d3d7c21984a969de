// Log lines: how the server sends them, what is kept of them, what of them is shown. Pure.

export interface Line {
  /** Counts up for as long as lines come, so that a row keeps its key. */
  id: number;
  /** `pod/container`. */
  source: string;
  time: string;
  text: string;
}

/** What is kept; older lines leave first. */
export const KEPT = 20_000;

/** Escape sequences and what else is no text: a log must not steer the page that shows it, nor a terminal it is copied to. */
// eslint-disable-next-line no-control-regex
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -/]*[0-~])/g;
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export function plain(text: string): string {
  return text.replace(ESCAPES, '').replace(CONTROLS, '');
}

/** `2026-01-01T00:00:00.1Z text` in its two parts. */
export function split(line: string): { time: string; text: string } {
  const found = /^(\d{4}-\d\d-\d\dT\S+) ?([^]*)$/.exec(line);
  return found ? { time: found[1]!, text: plain(found[2]!) } : { time: '', text: plain(line) };
}

export class Buffer {
  lines: Line[] = [];
  private next = 0;
  private last = new Map<string, string>();

  constructor(private readonly kept = KEPT) {}

  /** Takes a line in, unless it was there before a stream was begun anew. */
  add(source: string, raw: string): void {
    const { time, text } = split(raw);
    const last = this.last.get(source);
    if (time && last && earlier(time, last)) return;
    if (time) this.last.set(source, time);
    this.lines.push({ id: this.next++, source, time, text });
    if (this.lines.length > this.kept * 1.1) this.lines = this.lines.slice(-this.kept);
  }

  /** From when on a stream goes on. */
  since(source: string): string | undefined {
    return this.last.get(source);
  }
}

/** Whether a time is not after another; times may differ in their number of digits. */
function earlier(a: string, b: string): boolean {
  const [x, y] = [digits(a), digits(b)];
  return x <= y;
}

const digits = (time: string): string => {
  const [whole = '', fraction = ''] = time.replace(/Z$/, '').split('.');
  return `${whole}.${fraction.padEnd(9, '0')}`;
};

export function search(lines: Line[], typed: string): Line[] {
  const wanted = typed.toLowerCase();
  return wanted === '' ? lines : lines.filter((line) => line.text.toLowerCase().includes(wanted));
}

/** A text in parts: every second one is what is searched for. */
export function marked(text: string, typed: string): string[] {
  const [haystack, needle] = [text.toLowerCase(), typed.toLowerCase()];
  // Some letters are longer or shorter in lower case; then places would not fit.
  if (needle === '' || haystack.length !== text.length) return [text];
  const parts: string[] = [];
  let at = 0;
  for (let next = haystack.indexOf(needle); next >= 0; next = haystack.indexOf(needle, at)) {
    parts.push(text.slice(at, next), text.slice(next, next + needle.length));
    at = next + needle.length;
  }
  return [...parts, text.slice(at)];
}

/** As a file. */
export function asText(lines: Line[], sources: boolean): string {
  return lines.map((line) => [sources ? `[${line.source}]` : '', line.time, line.text].filter(Boolean).join(' ') + '\n').join('');
}
