// Server-side apply of what people have written: first as it would be, then in earnest.
import { APPLY, ApiError, get, query, send } from '../api/client';
import { kindFor, pathOf, type Kind } from '../api/discovery';
import type { Obj } from '../api/types';
import { fromYaml } from './document';

/** An object that the server has been asked about. */
export interface Prepared {
  kind: Kind;
  path: string;
  body: string;
  /** Takes over fields that others own. */
  force: boolean;
  before: Obj | null;
  after: Obj;
}

const patch = (path: string, body: string, force: boolean, dry: boolean): Promise<Obj> =>
  send('PATCH', path + query({ fieldManager: 'wherry-ui', fieldValidation: 'Strict', force, dryRun: dry ? 'All' : '' }), body, { type: APPLY });

/** What the server would make of a text; throws a sentence where it is no object, or is refused. */
export async function prepare(body: string, kinds: Kind[], force = false): Promise<Prepared> {
  const object = fromYaml(body);
  const kind = kindFor(kinds, object.apiVersion ?? '', object.kind ?? '');
  if (!kind) throw new Error(`The server has no kind ${object.kind ?? ''} in ${object.apiVersion ?? 'no group'}.`);
  if (!object.metadata.name) throw new Error('The object needs metadata.name.');
  const path = pathOf(kind, kind.namespaced ? (object.metadata.namespace ?? 'default') : undefined, object.metadata.name);
  const before = await get<Obj>(path).catch((error: unknown) => {
    if (error instanceof ApiError && error.code === 404) return null;
    throw error;
  });
  return { kind, path, body, force, before, after: await patch(path, body, force, true) };
}

export function apply({ path, body, force }: Prepared): Promise<Obj> {
  return patch(path, body, force, false);
}
