// What the whole page shares: who is signed in, the kinds of the server, the namespace, the clock, the theme.
import { ApiError, get, send, signWith, whenEnded, whenUnauthorized } from '../api/client';
import { access } from '../api/access.svelte';
import { discover, type Kind } from '../api/discovery';
import { objects } from '../api/live.svelte';
import type { Tree } from '../api/types';
import { finish, session, type Back } from '../session/session.svelte';
import { remembered, remember } from './remember';
import { firstNamespace, parse } from './route';

const REDISCOVER = 60_000;
const TICK = 1000;

export type Theme = 'system' | 'light' | 'dark';
type Signed = 'asking' | 'in' | 'out';

class App {
  signed = $state<Signed>('asking');
  user = $state('');
  /** Why one is signed out, if there is a reason. */
  notice = $state('');
  kinds = $state.raw<Kind[]>([]);
  version = $state('');
  /** '' shows all namespaces. */
  namespace = $state(firstNamespace(parse(location.hash), remembered('namespace', '')));
  now = $state(Date.now());
  theme = $state<Theme>(remembered('theme', 'system') as Theme);
  namespaces = objects('/api/v1/namespaces');
  private leave: (() => void) | undefined;

  constructor() {
    setInterval(() => (this.now = Date.now()), TICK);
    setInterval(() => this.signed === 'in' && void this.rediscover(), REDISCOVER);
    whenEnded(() => session.renew());
    whenUnauthorized(() => this.signed === 'in' && this.out('You were signed out by the server; sign in again.'));
  }

  /** Goes in with what the browser has; a link's code or a token are exchanged first. */
  async enter(credentials: { code?: string; token?: string; back?: Back } = {}): Promise<void> {
    this.notice = '';
    if (credentials.back) await finish(credentials.back);
    if (credentials.token) signWith(credentials.token);
    if (credentials.code || credentials.token) await this.exchange(credentials);
    // What can be renewed may have ended while the page was closed.
    await session.ask();
    const review = await send<Tree>('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'SelfSubjectReview',
    });
    const name: string = review.status?.userInfo?.username ?? '';
    if (name === '' || name === 'system:anonymous') throw new ApiError(401, 'Sign in to go on.');
    this.user = name;
    access.forget();
    await this.rediscover();
    this.version = (await get<Tree>('/version')).gitVersion ?? '';
    this.leave = this.namespaces.use();
    this.signed = 'in';
  }

  /** Makes a session of a one-time code or a token, so that the page may be loaded anew. Elsewhere than on Wherry tokens
   *  are kept in memory alone. */
  private async exchange({ code }: { code?: string; token?: string }): Promise<void> {
    const session = { apiVersion: 'ui.wherry.dev/v1', kind: 'Session', spec: code ? { code } : {} };
    try {
      await send('POST', '/apis/ui.wherry.dev/v1/sessions', session);
      signWith(null);
    } catch (error) {
      if (code || !(error instanceof ApiError) || error.code === 401) throw error;
    }
  }

  async leaveSession(): Promise<void> {
    await session.end();
    this.out('');
  }

  out(notice: string): void {
    signWith(null);
    session.forget();
    this.leave?.();
    this.signed = 'out';
    this.notice = notice;
  }

  async rediscover(): Promise<void> {
    this.kinds = await discover().catch((error: unknown) => {
      if (this.kinds.length > 0) return this.kinds;
      throw error;
    });
  }

  find(group: string, plural: string): Kind | undefined {
    return this.kinds.find((kind) => kind.group === group && kind.plural === plural);
  }

  choose(namespace: string): void {
    this.namespace = namespace;
    remember('namespace', namespace);
  }

  paint(theme: Theme): void {
    this.theme = theme;
    remember('theme', theme);
  }
}

export const app = new App();
