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
let renew: () => Promise<boolean> = () => Promise.resolve(false);

/** Signs the requests from now on; `null` leaves them to the cookie or the certificate that the browser has. */
export function signWith(token: string | null): void {
  bearer = token;
}

export function whenUnauthorized(act: () => void): void {
  onUnauthorized = act;
}

/** Tries to go on with a session that has just ended; `false` where that cannot be. */
export function whenEnded(act: () => Promise<boolean>): void {
  renew = act;
}

/** What signs a request, if the cookie does not. */
export function authorization(): string | undefined {
  return bearer ? `Bearer ${bearer}` : undefined;
}

/** Subprotocols that carry the token where headers cannot be set. */
export function socketProtocols(): string[] {
  if (!bearer) return [];
  const bytes = new TextEncoder().encode(bearer);
  const encoded = btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  return [`base64url.bearer.authorization.k8s.io.${encoded}`];
}

export interface Ask {
  /** About the session itself, which is then not renewed first. */
  plain?: boolean;
  method?: string;
  accept?: string;
  body?: unknown;
  type?: string;
  signal?: AbortSignal;
}

/** Sends a request and answers with what came, whatever its code. */
async function raw(path: string, ask: Ask): Promise<Response> {
  const headers: Record<string, string> = { Accept: ask.accept ?? 'application/json' };
  const signed = authorization();
  if (signed) headers.Authorization = signed;
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
  let response = await raw(path, ask);
  if (response.ok) return response;
  let error = await failure(response);
  if (isNobody(error) && !ask.plain && (await renew())) {
    response = await raw(path, ask);
    if (response.ok) return response;
    error = await failure(response);
  }
  // Whoever is nobody any more has lost the session.
  if (isNobody(error) && !ask.plain) onUnauthorized();
  throw error;
}

const isNobody = ({ code, message }: ApiError): boolean => code === 401 || (code === 403 && message.includes('"system:anonymous"'));

async function failure(response: Response): Promise<ApiError> {
  return apiError(response.status, await response.text().catch(() => ''));
}

/** What an answer that is no success says. */
export function apiError(code: number, text: string): ApiError {
  try {
    const status = JSON.parse(text) as Status;
    if (status.kind === 'Status') return new ApiError(code, sentence(status.message ?? ''), status.reason, status);
  } catch {
    // Not JSON: the text itself says what is wrong.
  }
  return new ApiError(code, sentence(text || `The server answered ${code}.`));
}

/** What servers say, as a sentence. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  if (trimmed === '') return 'The server gave no reason.';
  const begun = /^[a-z]+ /.test(trimmed) ? trimmed[0]!.toUpperCase() + trimmed.slice(1) : trimmed;
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

export interface Answered {
  code: number;
  milliseconds: number;
  /** The beginning of what was said; inert text. */
  text: string;
}

const MOST_SHOWN = 400;

/** What something behind the API's proxy answers; null where nothing does yet. */
export async function answers(path: string, signal: AbortSignal): Promise<Answered | 'refused' | null> {
  const begun = performance.now();
  const response = await raw(path, { accept: '*/*', signal });
  const text = (await response.text()).slice(0, MOST_SHOWN);
  const milliseconds = Math.round(performance.now() - begun);
  const isOurs = text.includes('"kind":"Status"') || text.includes('"kind": "Status"');
  if (isOurs && response.status === 403) return 'refused';
  return isOurs && !response.ok ? null : { code: response.status, milliseconds, text };
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
