// The one place that speaks HTTP. Every answer that is no success becomes an error whose message is a sentence; what
// the network does is told to `connection`.
import { connection } from './connection.svelte';
import type { Status } from './types';

/** Where the API is: what stands before `/ui/`. */
export const base = globalThis.location?.pathname.replace(/\/ui(\/.*)?$/, '').replace(/\/$/, '') ?? '';

export class ApiError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly reason = '',
    readonly status?: Status,
  ) {
    super(message);
  }
}

/** The server was not reached; what was asked may be asked again. */
export class Unreachable extends Error {}

let bearer: string | null = null;
let onUnauthorized: () => void = () => {};

/** Signs the requests from now on; `null` leaves them to the cookie or the certificate that the browser has. */
export function signWith(token: string | null): void {
  bearer = token;
}

export function whenUnauthorized(act: () => void): void {
  onUnauthorized = act;
}

/** Subprotocols that carry the token where headers cannot be set. */
export function socketProtocols(): string[] {
  if (!bearer) return [];
  const bytes = new TextEncoder().encode(bearer);
  const encoded = btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  return [`base64url.bearer.authorization.k8s.io.${encoded}`];
}

export interface Ask {
  method?: string;
  accept?: string;
  body?: unknown;
  type?: string;
  signal?: AbortSignal;
}

/** Sends a request and answers with what came, whatever its code. */
async function raw(path: string, ask: Ask): Promise<Response> {
  const headers: Record<string, string> = { Accept: ask.accept ?? 'application/json' };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  const init: RequestInit = { method: ask.method ?? 'GET', headers, credentials: 'same-origin', cache: 'no-store' };
  if (ask.signal) init.signal = ask.signal;
  if (ask.body !== undefined) {
    headers['Content-Type'] = ask.type ?? 'application/json';
    init.body = typeof ask.body === 'string' ? ask.body : JSON.stringify(ask.body);
  }
  try {
    const response = await fetch(base + path, init);
    connection.answered();
    return response;
  } catch (error) {
    if (ask.signal?.aborted) throw error;
    connection.lost();
    throw new Unreachable('The server does not answer.');
  }
}

/** As `raw`, and every answer that is no success is thrown. */
export async function request(path: string, ask: Ask = {}): Promise<Response> {
  const response = await raw(path, ask);
  if (response.ok) return response;
  const error = await failure(response);
  // Whoever is nobody any more has lost the session.
  if (error.code === 401 || (error.code === 403 && error.message.includes('"system:anonymous"'))) onUnauthorized();
  throw error;
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  try {
    const status = JSON.parse(text) as Status;
    if (status.kind === 'Status') return new ApiError(response.status, sentence(status.message ?? ''), status.reason, status);
  } catch {
    // Not JSON: the text itself says what is wrong.
  }
  return new ApiError(response.status, sentence(text || `The server answered ${response.status}.`));
}

/** What servers say, as a sentence. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  if (trimmed === '') return 'The server gave no reason.';
  const begun = /^[a-z]+ /.test(trimmed) ? trimmed[0]!.toUpperCase() + trimmed.slice(1) : trimmed;
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export async function get<T>(path: string, ask: Ask = {}): Promise<T> {
  return (await request(path, ask)).json() as Promise<T>;
}

export async function send<T>(method: string, path: string, body?: unknown, ask: Ask = {}): Promise<T> {
  return (await request(path, { ...ask, method, body })).json() as Promise<T>;
}

export const MERGE = 'application/merge-patch+json';
export const STRATEGIC = 'application/strategic-merge-patch+json';
export const APPLY = 'application/apply-patch+yaml';

/** `?a=b` of what is not empty. */
export function query(parameters: Record<string, string | number | boolean | undefined>): string {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== '' && value !== false);
  if (pairs.length === 0) return '';
  return '?' + new URLSearchParams(pairs.map(([key, value]) => [key, String(value)])).toString();
}

/** The lines of a body as they come. */
export async function* lines(response: Response): AsyncGenerator<string> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split('\n');
      rest = parts.pop() ?? '';
      yield* parts;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}
