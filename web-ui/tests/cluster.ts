// A real `wherry up` for the browser's tests, and a plain client to it that acts as the administrator.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parse } from 'yaml';
import type { Tree } from '../src/api/types';

const BINARY = process.env.WHERRY_BIN ?? '';
const ROOT = new URL('../..', import.meta.url).pathname;

export interface Answer {
  code: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  json: Tree;
}

export class Cluster {
  readonly directory = mkdtempSync(join(tmpdir(), 'wherry-ui-'));
  readonly port = Number(process.env.WHERRY_PORT ?? 16443);
  readonly url = `https://127.0.0.1:${this.port}`;
  link = '';
  /** The administrator's, as PEM. */
  certificate: Buffer = Buffer.alloc(0);
  key: Buffer = Buffer.alloc(0);

  /** With further flags of `wherry up`. */
  constructor(private readonly flags: string[] = []) {}

  private process: ChildProcess | undefined;
  private agent: Agent | undefined;

  private get data(): string {
    return join(this.directory, 'data');
  }

  /** Starts it, or starts it again. */
  async up(): Promise<void> {
    const kubeconfig = join(this.directory, 'kubeconfig');
    const log = createWriteStream(join(this.directory, 'log'), { flags: 'a' });
    const child = spawn(BINARY, ['up', '--data-dir', this.data, '--api-bind', `127.0.0.1:${this.port}`, '--kubeconfig', kubeconfig, ...this.flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.process = child;
    child.stderr.pipe(log);
    const lines = createInterface({ input: child.stdout });
    this.link = await new Promise((resolve, reject) => {
      lines.on('line', (line) => line.startsWith('dashboard: ') && resolve(line.slice('dashboard: '.length)));
      child.on('exit', (code) => reject(new Error(`wherry up ended with ${code}: ${this.tail()}`)));
    });
    const config = parse(readFileSync(kubeconfig, 'utf8')) as Tree;
    const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
    const { user } = config.users[0];
    [this.certificate, this.key] = [bytes(user['client-certificate-data']), bytes(user['client-key-data'])];
    this.agent = new Agent({ keepAlive: true, maxSockets: 16, ca: bytes(config.clusters[0].cluster['certificate-authority-data']), cert: this.certificate, key: this.key });
  }

  private tail(): string {
    return readFileSync(join(this.directory, 'log'), 'utf8').split('\n').slice(-20).join('\n');
  }

  /** As a crash: no goodbye. */
  async kill(): Promise<void> {
    const child = this.process!;
    const gone = new Promise((resolve) => child.on('exit', resolve));
    child.removeAllListeners('exit');
    child.on('exit', () => {});
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await Promise.race([gone, ended]);
    this.agent?.destroy();
  }

  async down(): Promise<void> {
    this.agent?.destroy();
    this.process?.removeAllListeners('exit');
    // It ends the workloads first, with the server running.
    execFileSync(BINARY, ['down', '--data-dir', this.data], { stdio: 'ignore', timeout: 60_000 });
    this.process?.kill('SIGTERM');
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  load(file: string, name: string): void {
    execFileSync(BINARY, ['image', 'load', '--data-dir', this.data, join(ROOT, file), name], { stdio: 'ignore' });
  }

  /** Sends a request; without `headers` as the administrator. */
  ask(method: string, path: string, body?: unknown, headers: Record<string, string> = {}, anonymous = false): Promise<Answer> {
    const agent = anonymous ? new Agent({ rejectUnauthorized: false }) : this.agent!;
    return new Promise((resolve, reject) => {
      const sent = request(this.url + path, { method, agent, headers: { 'content-type': 'application/json', ...headers } }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          let json: Tree = {};
          try {
            json = JSON.parse(text);
          } catch {
            // A page, a log: its text is enough.
          }
          resolve({ code: answer.statusCode ?? 0, headers: answer.headers, text, json });
        });
        answer.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
    });
  }

  async must(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Tree> {
    const answer = await this.ask(method, path, body, headers);
    if (answer.code >= 300) throw new Error(`${method} ${path}: ${answer.code} ${answer.text}`);
    return answer.json;
  }

  /** Applies an object by server-side apply. */
  apply(path: string, object: Tree, manager = 'test'): Promise<Tree> {
    return this.must('PATCH', `${path}/${object.metadata.name}?fieldManager=${manager}&force=true`, object, { 'content-type': 'application/apply-patch+yaml' });
  }

  /** Creates or changes the objects of a file of the repository. */
  async applyFile(file: string, path: string): Promise<void> {
    await this.apply(path, parse(readFileSync(join(ROOT, file), 'utf8')) as Tree);
  }

  /** The example, whose images are to be loaded. */
  async applyHello(): Promise<void> {
    const core = '/api/v1/namespaces/default';
    for (const [file, path] of Object.entries({ configmap: `${core}/configmaps`, secret: `${core}/secrets`, service: `${core}/services`, deployment: '/apis/apps/v1/namespaces/default/deployments' })) {
      await this.applyFile(`examples/hello/${file}.yaml`, path);
    }
  }

  async token(namespace: string, account: string): Promise<string> {
    await this.apply(`/api/v1/namespaces/${namespace}/serviceaccounts`, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: account, namespace } });
    const answer = await this.must('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} });
    return answer.status.token;
  }
}
