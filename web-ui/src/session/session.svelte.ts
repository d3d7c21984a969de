// The session that the server keeps for this browser: how one gets in, until when it is good, how it is renewed. The page
// never sees what it is signed in by.
import { send } from '../api/client';
import type { Tree } from '../api/types';
import { type Back, renewIn } from './back';

export type { Back };

const SESSIONS = '/apis/ui.wherry.dev/v1/sessions';
const VIEW = 'wherry.view';
const LOCK = 'wherry.renew';

const create = (spec: Tree): Promise<Tree> => send<Tree>('POST', SESSIONS, { apiVersion: 'ui.wherry.dev/v1', kind: 'Session', spec }, { plain: true });

class Session {
  /** Issuers at which one may sign in. */
  issuers = $state.raw<string[]>([]);
  /** Where one also signs out, after one has here. */
  elsewhere = $state('');
  private renewable = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private renewing: Promise<boolean> | undefined;

  /** Asks the server; a server that knows no sessions offers nothing. */
  async ask(): Promise<void> {
    const { status = {} } = await send<Tree>('GET', `${SESSIONS}/current`, undefined, { plain: true }).catch(() => ({}) as Tree);
    this.issuers = (status.signIn ?? []).flatMap(({ type, issuer }: Tree) => (type === 'OIDC' && typeof issuer === 'string' ? [issuer] : []));
    this.learn(status);
  }

  private learn(status: Tree): void {
    clearTimeout(this.timer);
    this.renewable = status.renewable === true;
    const wait = this.renewable ? renewIn(status.expirationTimestamp, Date.now()) : null;
    if (wait !== null) this.timer = setTimeout(() => void this.renew(), wait);
  }

  /** Goes on with a session that ends, or has ended; once for all who want it, in all tabs one after the other. */
  renew(): Promise<boolean> {
    if (!this.renewable) return Promise.resolve(false);
    this.renewing ??= this.exchange().finally(() => (this.renewing = undefined));
    return this.renewing;
  }

  private async exchange(): Promise<boolean> {
    const work = async (): Promise<boolean> => {
      const { status = {} } = await create({ renew: true });
      this.learn(status);
      return true;
    };
    try {
      return await ('locks' in navigator ? navigator.locks.request(LOCK, work) : work());
    } catch {
      this.forget();
      return false;
    }
  }

  async end(): Promise<void> {
    const { status = {} } = await send<Tree>('DELETE', `${SESSIONS}/current`, undefined, { plain: true }).catch(() => ({}) as Tree);
    this.elsewhere = /^https:\/\//.test(status.endSessionURL ?? '') ? status.endSessionURL : '';
  }

  forget(): void {
    clearTimeout(this.timer);
    this.renewable = false;
  }
}

export const session = new Session();

/** Goes to the issuer; one comes back to the view that one has left. */
export async function begin(): Promise<void> {
  const { status = {} } = await create({ oidc: {} });
  const url = String(status.authorizationURL ?? '');
  if (!url.startsWith('https://')) throw new Error('The server does not say where to sign in.');
  sessionStorage.setItem(VIEW, location.hash);
  location.assign(url);
}

/** Ends what `begin` began. */
export async function finish({ code, state, iss }: Back): Promise<void> {
  await create({ oidc: { code, state, ...(iss === undefined ? {} : { iss }) } });
}

/** The view that was left for the issuer. */
export function takeView(): string {
  const view = sessionStorage.getItem(VIEW);
  sessionStorage.removeItem(VIEW);
  return view?.startsWith('#/') ? view : '#/';
}

export function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}
