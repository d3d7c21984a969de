// What a pod's containers use now, where the server has metrics.k8s.io; asked for while somebody looks.
import { get } from '../api/client';
import { pathOf } from '../api/discovery';
import type { Tree } from '../api/types';
import { app } from '../app/state.svelte';

const PERIOD = 15_000;

export class Usage {
  private known = $state.raw<Record<string, Tree>>({});

  of(container: string): Tree | undefined {
    return this.known[container];
  }

  /** Asks until the answer is called. */
  follow(namespace: string, pod: string): () => void {
    const kind = app.find('metrics.k8s.io', 'pods');
    if (!kind) return () => {};
    const stop = new AbortController();
    const read = async (): Promise<void> => {
      try {
        const found = await get<Tree>(pathOf(kind, namespace, pod), { signal: stop.signal });
        this.known = Object.fromEntries((found.containers ?? []).map((one: Tree) => [one.name, one.usage]));
      } catch {
        // Nothing has been measured yet, or one may not read it: the rest of the page is there.
      }
    };
    void read();
    const timer = setInterval(() => document.visibilityState === 'visible' && void read(), PERIOD);
    return () => (stop.abort(), clearInterval(timer));
  }
}
