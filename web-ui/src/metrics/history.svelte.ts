// The last hour of something, asked for again at every sample while somebody looks.
import { ApiError, get, message } from '../api/client';
import type { Tree } from '../api/types';
import { app } from '../app/state.svelte';
import type { History } from './history';

const GROUP = 'runtime.wherry.dev';
const PERIOD = 15_000;

export class LiveHistory {
  history = $state.raw<History | undefined>(undefined);
  error = $state('');
  /** One may not read it, or there is no such thing. */
  refused = $state(false);
  private timer: ReturnType<typeof setInterval> | undefined;
  private users = 0;

  constructor(private readonly path: string, private readonly released: () => void) {}

  use(): () => void {
    if (this.users++ === 0) {
      void this.read();
      this.timer = setInterval(() => document.visibilityState === 'visible' && void this.read(), PERIOD);
    }
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      if (--this.users > 0) return;
      clearInterval(this.timer);
      this.released();
    };
  }

  private async read(): Promise<void> {
    try {
      this.history = (await get<Tree>(this.path)).status as History;
      this.refused = false;
      this.error = '';
    } catch (error) {
      // What was read stays while the server is away.
      this.refused = error instanceof ApiError && [403, 404].includes(error.code);
      this.error = message(error);
    }
  }
}

const shared = new Map<string, LiveHistory>();

/** What Wherry alone serves; nothing on other servers. */
function path(plural: string, namespace: string | undefined, name: string, sub = ''): string | undefined {
  const kind = app.find(GROUP, plural);
  if (!kind || (sub && !kind.subresources.includes(sub))) return undefined;
  const place = namespace ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `/apis/${GROUP}/${kind.version}${place}/${plural}/${encodeURIComponent(name)}${sub && `/${sub}`}`;
}

function history(path: string | undefined): LiveHistory | undefined {
  if (!path) return undefined;
  const found = shared.get(path) ?? new LiveHistory(path, () => shared.delete(path));
  shared.set(path, found);
  return found;
}

/** Of a namespace, or of all of them. */
export const ofCluster = (namespace: string): LiveHistory | undefined =>
  history(namespace ? path('namespaces', namespace, namespace) : path('clusters', undefined, 'current'));
export const ofNode = (name: string): LiveHistory | undefined => history(path('nodes', undefined, name));
export const ofPod = (namespace: string, name: string): LiveHistory | undefined => history(path('pods', namespace, name));
export const programsOf = (namespace: string, name: string): string | undefined => path('pods', namespace, name, 'programs');
