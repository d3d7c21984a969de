// An OpenID Connect issuer for the tests, as strict as real ones: PKCE, a client secret, codes that count once, refresh tokens
// that are replaced at each use.
import { execFileSync } from 'node:child_process';
import { createHash, createPrivateKey, createPublicKey, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Code {
  challenge: string;
  nonce: string;
}

const random = (): string => randomBytes(24).toString('base64url');

export class Issuer {
  readonly directory = mkdtempSync(join(tmpdir(), 'wherry-issuer-'));
  // Another site than the dashboard's 127.0.0.1.
  readonly url: string;
  readonly ca = join(this.directory, 'ca.crt');
  readonly secretFile = join(this.directory, 'secret');
  readonly client = 'dashboard';
  /** Seconds that ID tokens are good. */
  lifetime = 3600;
  /** What was asked of the token endpoint and how it went. */
  asked: string[] = [];
  revoked = false;
  private readonly secret = random();
  private codes = new Map<string, Code>();
  private refresh = new Set<string>();
  private server: Server | undefined;

  constructor(
    private readonly port: number,
    private readonly back: string,
  ) {
    this.url = `https://localhost:${port}`;
    const script = `set -eu; cd "$1"; printf %s "$2" > secret
      curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'
      openssl req -x509 $curve -keyout ca.key -out ca.crt -subj /CN=issuer-authority
      openssl req $curve -keyout tls.key -out tls.csr -subj /CN=localhost
      printf 'subjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth\\n' > tls.ext
      openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out tls.crt -extfile tls.ext
      openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out signing.key`;
    execFileSync('bash', ['-c', script, 'issuer', this.directory, this.secret], { stdio: 'pipe' });
  }

  async up(): Promise<void> {
    const file = (name: string): Buffer => readFileSync(join(this.directory, name));
    this.server = createServer({ key: file('tls.key'), cert: file('tls.crt') }, (request, response) => void this.answer(request, response));
    await new Promise<void>((resolve) => this.server!.listen(this.port, '127.0.0.1', resolve));
  }

  async down(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => (this.server ? this.server.close(resolve) : resolve(undefined)));
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const json = (code: number, value: unknown): void => void response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (url.pathname === '/.well-known/openid-configuration') {
      return json(200, { issuer: this.url, authorization_endpoint: `${this.url}/auth`, token_endpoint: `${this.url}/token`, end_session_endpoint: `${this.url}/logout`, jwks_uri: `${this.url}/keys` });
    }
    if (url.pathname === '/keys') {
      const key = createPublicKey(createPrivateKey(readFileSync(join(this.directory, 'signing.key')))).export({ format: 'jwk' });
      return json(200, { keys: [{ ...key, kid: 'one', use: 'sig', alg: 'ES256' }] });
    }
    if (url.pathname === '/auth') return this.page(url.searchParams, response);
    if (url.pathname === '/token') {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const given = this.token(new URLSearchParams(Buffer.concat(chunks).toString()), request.headers.authorization ?? '');
      return typeof given === 'string' ? json(400, { error: given }) : json(200, given);
    }
    json(404, {});
  }

  /** Asks whether it is Ann, and leads back. */
  private page(asked: URLSearchParams, response: ServerResponse): void {
    const fits =
      asked.get('client_id') === this.client && asked.get('redirect_uri') === this.back && asked.get('response_type') === 'code' &&
      (asked.get('scope') ?? '').split(' ').includes('openid') && asked.get('code_challenge_method') === 'S256' && asked.get('nonce') && asked.get('state');
    if (!fits) return void response.writeHead(400).end('this is not how one signs in');
    const code = random();
    this.codes.set(code, { challenge: asked.get('code_challenge') ?? '', nonce: asked.get('nonce') ?? '' });
    const back = new URL(this.back);
    const state = asked.get('state') ?? '';
    back.search = new URLSearchParams({ code, state, iss: this.url }).toString();
    const denied = `${this.back}?${new URLSearchParams({ error: 'access_denied', error_description: 'Ann said no', state })}`;
    const escape = (text: string): string => text.replaceAll('&', '&amp;');
    response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><title>Issuer</title><a href="${escape(back.href)}">It is me</a> <a href="${escape(denied)}">Not me</a>`);
  }

  private token(asked: URLSearchParams, authorization: string): string | object {
    const answer = this.exchange(asked, authorization);
    this.asked.push(`${asked.get('grant_type')}: ${typeof answer === 'string' ? answer : 'given'}`);
    return answer;
  }

  private exchange(asked: URLSearchParams, authorization: string): string | object {
    const expected = `Basic ${Buffer.from(`${this.client}:${this.secret}`).toString('base64')}`;
    if (authorization !== expected) return 'invalid_client';
    if (asked.get('grant_type') === 'refresh_token') {
      return !this.revoked && this.refresh.delete(asked.get('refresh_token') ?? '') ? this.given({}) : 'invalid_grant';
    }
    const code = this.codes.get(asked.get('code') ?? '');
    this.codes.delete(asked.get('code') ?? '');
    const verified = createHash('sha256').update(asked.get('code_verifier') ?? '').digest('base64url');
    if (!code || asked.get('redirect_uri') !== this.back || verified !== code.challenge) return 'invalid_grant';
    return this.given({ nonce: code.nonce });
  }

  private given(more: object): object {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.url, aud: this.client, sub: 'ann', exp: now + this.lifetime, iat: now, ...more };
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const signed = `${part({ alg: 'ES256', kid: 'one' })}.${part(claims)}`;
    const key = createPrivateKey(readFileSync(join(this.directory, 'signing.key')));
    const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
    const refresh = random();
    this.refresh.add(refresh);
    return { access_token: random(), token_type: 'Bearer', expires_in: this.lifetime, refresh_token: refresh, id_token: `${signed}.${signature}` };
  }
}
