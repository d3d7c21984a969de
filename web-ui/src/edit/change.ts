// What a button of a page changes: asked of the server as a dry run first, so that `Changes` can show it, and then in earnest.
import { MERGE, query, send } from '../api/client';
import { pathOf, type Kind } from '../api/discovery';
import type { Obj, Tree } from '../api/types';

export interface Change {
  title: string;
  /** Said when it is done. */
  done: string;
  before: Obj | null;
  /** What the server would make of it. */
  after: Promise<Obj>;
  apply: () => Promise<Obj>;
}

type Words = Pick<Change, 'title' | 'done'>;

export const JSON_PATCH = 'application/json-patch+json';

/** The first question is sent at once. */
function change(words: Words, before: Obj | null, ask: (dry: boolean) => Promise<Obj>): Change {
  return { ...words, before, after: ask(true), apply: () => ask(false) };
}

const options = (dry: boolean): string => query({ fieldManager: 'wherry-ui', dryRun: dry ? 'All' : '' });

export function patched(kind: Kind, object: Obj, patch: Tree, words: Words, type = MERGE): Change {
  const path = pathOf(kind, object.metadata.namespace, object.metadata.name);
  return change(words, object, (dry) => send('PATCH', path + options(dry), patch, { type }));
}

/** By the subresource, for which a right of its own is enough; shown as what becomes of the object. */
export function scaled(kind: Kind, object: Obj, replicas: number, words: Words): Change {
  const path = pathOf(kind, object.metadata.namespace, object.metadata.name, 'scale');
  return change(words, object, async (dry) => {
    const scale = await send<Obj>('PATCH', path + options(dry), { spec: { replicas } }, { type: MERGE });
    return { ...object, spec: { ...object.spec, replicas: scale.spec?.replicas ?? 0 } };
  });
}

export function created(kind: Kind, object: Obj, words: Words): Change {
  const path = pathOf(kind, object.metadata.namespace);
  return change(words, null, (dry) => send('POST', path + options(dry), object));
}
