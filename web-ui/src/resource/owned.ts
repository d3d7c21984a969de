// What goes along with an object: what it owns, and what that owns; of a namespace and of a definition, what is in them.
import { get, query } from '../api/client';
import { pathOf, resourceName, type Kind } from '../api/discovery';
import type { List, Obj } from '../api/types';

const METADATA = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json';
const PAGE = 500;
/** Of one kind; whoever has more is told so. */
const PAGES = 10;
const AT_ONCE = 6;

export interface Found {
  objects: Obj[];
  /** Kinds that the user may not list. */
  refused: Kind[];
  /** Kinds of which not all were looked at. */
  cut: Kind[];
}

/** Owned by nobody who stays, one after the other: what the garbage collector takes once the owner is gone. */
export function goWith(objects: Obj[], owner: string): Obj[] {
  const gone = new Set([owner]);
  const left = new Set(objects.filter((one) => (one.metadata.ownerReferences ?? []).length > 0 && one.metadata.uid !== owner));
  const taken: Obj[] = [];
  for (let before = -1; before !== taken.length; ) {
    before = taken.length;
    for (const one of left) {
      if (!one.metadata.ownerReferences!.every(({ uid }) => gone.has(uid))) continue;
      left.delete(one);
      gone.add(one.metadata.uid ?? '');
      taken.push(one);
    }
  }
  return taken;
}

/** What names it as an owner. */
export function ownedBy(objects: Obj[], owner: string): Obj[] {
  return objects.filter((one) => (one.metadata.ownerReferences ?? []).some(({ uid }) => uid === owner));
}

/** Names by kind, the most numerous first. */
export function byKind(objects: Obj[]): [kind: string, names: string[]][] {
  const kinds = new Map<string, string[]>();
  for (const { kind = '', metadata } of objects) kinds.set(kind, [...(kinds.get(kind) ?? []), metadata.name]);
  for (const names of kinds.values()) names.sort();
  return [...kinds].sort(([a, these], [b, those]) => those.length - these.length || a.localeCompare(b));
}

/** Which collections hold what may go along. */
export function collections(kinds: Kind[], kind: Kind, namespace: string | undefined, name: string): { kind: Kind; namespace: string | undefined }[] {
  const held = kinds.filter(({ verbs, plural }) => verbs.includes('list') && verbs.includes('delete') && plural !== 'events');
  if (isNamespace(kind)) return held.filter((one) => one.namespaced).map((one) => ({ kind: one, namespace: name }));
  if (isDefinition(kind)) return held.filter((one) => resourceName(one) === name).map((one) => ({ kind: one, namespace: undefined }));
  return held.filter((one) => one.namespaced || !namespace).map((one) => ({ kind: one, namespace }));
}

const isNamespace = (kind: Kind): boolean => kind.group === '' && kind.plural === 'namespaces';
const isDefinition = (kind: Kind): boolean => kind.group === 'apiextensions.k8s.io' && kind.plural === 'customresourcedefinitions';
/** Whether all goes that is in it, whoever owns it. */
export const holdsAll = (kind: Kind): boolean => isNamespace(kind) || isDefinition(kind);

/** The metadata of what may go along. */
export async function gather(places: { kind: Kind; namespace: string | undefined }[], signal: AbortSignal): Promise<Found> {
  const found: Found = { objects: [], refused: [], cut: [] };
  const seen = new Set<string>();
  const left = [...places];
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next; next = left.shift()) {
      const { kind, namespace } = next;
      try {
        let more: string | undefined = '';
        for (let page = 0; more !== undefined && page < PAGES; page++) {
          const list: List = await get<List>(pathOf(kind, namespace) + query({ limit: PAGE, continue: more }), { accept: METADATA, signal });
          for (const one of list.items) {
            const uid = one.metadata.uid ?? '';
            if (!seen.has(uid)) found.objects.push({ ...one, kind: kind.kind });
            seen.add(uid);
          }
          more = list.metadata.continue || undefined;
        }
        if (more !== undefined) found.cut.push(kind);
      } catch (error) {
        if (signal.aborted) throw error;
        found.refused.push(kind);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return found;
}
