// What the user may do, asked of the server: a button that may not be pressed says which verb is missing.
import { SvelteMap } from 'svelte/reactivity';
import { send } from './client';
import { resourceName, type Kind } from './discovery';
import type { Tree } from './types';

export interface Deed {
  verb: string;
  kind: Kind;
  namespace?: string | undefined;
  name?: string | undefined;
  sub?: string | undefined;
}

type Answer = 'asking' | 'yes' | 'no';

class Access {
  private answers = new SvelteMap<string, Answer>();

  /** Whether it is known that the user may not; asks at first sight. */
  denied(deed: Deed): boolean {
    return this.ask(deed) === 'no';
  }

  allowed(deed: Deed): boolean {
    return this.ask(deed) === 'yes';
  }

  private ask(deed: Deed): Answer {
    const key = [deed.verb, deed.kind.group, deed.kind.plural, deed.sub ?? '', deed.namespace ?? '', deed.name ?? ''].join(' ');
    const known = this.answers.get(key);
    if (known) return known;
    // Drawing must not write what it reads.
    queueMicrotask(() => {
      if (this.answers.has(key)) return;
      this.answers.set(key, 'asking');
      void this.review(key, deed);
    });
    return 'asking';
  }

  private async review(key: string, deed: Deed): Promise<void> {
    const resourceAttributes = {
      verb: deed.verb,
      group: deed.kind.group,
      resource: deed.kind.plural,
      ...(deed.sub ? { subresource: deed.sub } : {}),
      ...(deed.kind.namespaced && deed.namespace ? { namespace: deed.namespace } : {}),
      ...(deed.name ? { name: deed.name } : {}),
    };
    try {
      const review = await send<Tree>('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes },
      });
      this.answers.set(key, review.status?.allowed ? 'yes' : 'no');
    } catch {
      // Asked again at the next sight; the server decides in the end.
      this.answers.delete(key);
    }
  }

  forget(): void {
    this.answers.clear();
  }
}

export const access = new Access();

/** What is missing, in a sentence. */
export function missing(deed: Deed): string {
  const resource = resourceName(deed.kind) + (deed.sub ? `/${deed.sub}` : '');
  const place = deed.kind.namespaced && deed.namespace ? ` in the namespace ${deed.namespace}` : '';
  return `You may not: the verb “${deed.verb}” on ${resource}${place} is missing.`;
}
