// The channel protocol of exec over WebSocket, `v5.channel.k8s.io`: the first byte of a message is its channel. Pure.

export const PROTOCOL = 'v5.channel.k8s.io';
export const OLDER = 'v4.channel.k8s.io';

export type Message = { channel: 'out' | 'err'; bytes: Uint8Array } | { channel: 'end'; words: string; code: number } | { channel: 'other' };

const [STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE] = [0, 1, 2, 3, 4, 255];

export function read(data: ArrayBuffer): Message {
  const bytes = new Uint8Array(data);
  const content = bytes.subarray(1);
  switch (bytes[0]) {
    case STDOUT:
      return { channel: 'out', bytes: content };
    case STDERR:
      return { channel: 'err', bytes: content };
    case ERROR:
      return end(new TextDecoder().decode(content));
    default:
      return { channel: 'other' };
  }
}

/** How a command ended, from the Status on the error channel. */
function end(text: string): Message {
  try {
    const status = JSON.parse(text);
    if (status.status === 'Success') return { channel: 'end', words: 'The command has ended.', code: 0 };
    const cause = (status.details?.causes ?? []).find((found: { reason?: string }) => found.reason === 'ExitCode');
    if (cause) return { channel: 'end', words: `The command has ended with exit code ${cause.message}.`, code: Number(cause.message) };
    return { channel: 'end', words: status.message ?? text, code: 1 };
  } catch {
    return { channel: 'end', words: text, code: 1 };
  }
}

function framed(channel: number, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(content.length + 1);
  bytes[0] = channel;
  bytes.set(content, 1);
  return bytes;
}

export const stdin = (text: string): Uint8Array<ArrayBuffer> => framed(STDIN!, new TextEncoder().encode(text));
export const resize = (columns: number, rows: number): Uint8Array<ArrayBuffer> => framed(RESIZE!, new TextEncoder().encode(JSON.stringify({ Width: columns, Height: rows })));
/** Says that no more input comes. */
export const closeStdin = (): Uint8Array<ArrayBuffer> => new Uint8Array([CLOSE!, STDIN!]);

export function execPath(namespace: string, pod: string, container: string, command: string[]): string {
  const parameters = new URLSearchParams({ container, stdin: 'true', stdout: 'true', tty: 'true' });
  for (const word of command) parameters.append('command', word);
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/exec?${parameters}`;
}

/** A command line's words; quotes keep blanks. */
export function words(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+)/g)].map((found) => found[1]?.replace(/\\(.)/g, '$1') ?? found[2] ?? found[3] ?? '');
}
