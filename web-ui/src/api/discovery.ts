// Which kinds the server has, from aggregated discovery (Kubernetes 1.30 and newer speak v2).
import { get } from './client';
import type { Tree } from './types';

export interface Kind {
  group: string;
  version: string;
  plural: string;
  kind: string;
  singular: string;
  shortNames: string[];
  verbs: string[];
  namespaced: boolean;
  categories: string[];
  subresources: string[];
}

const ACCEPT =
  'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList';

/** All kinds, each in the version that the server prefers. */
export async function discover(): Promise<Kind[]> {
  const documents = await Promise.all(['/api', '/apis'].map((path) => get<Tree>(path, { accept: ACCEPT })));
  return documents.flatMap(kindsOf);
}

export function kindsOf(document: Tree): Kind[] {
  const kinds: Kind[] = [];
  for (const group of document.items ?? []) {
    const seen = new Set<string>();
    for (const version of group.versions ?? []) {
      for (const resource of version.resources ?? []) {
        if (seen.has(resource.resource)) continue;
        seen.add(resource.resource);
        kinds.push({
          group: group.metadata?.name ?? '',
          version: version.version,
          plural: resource.resource,
          kind: resource.responseKind?.kind ?? '',
          singular: resource.singularResource ?? '',
          shortNames: resource.shortNames ?? [],
          verbs: resource.verbs ?? [],
          namespaced: resource.scope === 'Namespaced',
          categories: resource.categories ?? [],
          subresources: (resource.subresources ?? []).map((sub: Tree) => sub.subresource as string),
        });
      }
    }
  }
  return kinds;
}

/** The path of a collection, an object or a subresource. */
export function pathOf(kind: Kind, namespace?: string, name?: string, sub?: string): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  const place = kind.namespaced && namespace ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  const tail = [name && encodeURIComponent(name), sub].filter(Boolean).map((part) => `/${part}`);
  return root + place + '/' + kind.plural + tail.join('');
}

/** `deployments.apps`, as kubectl says it. */
export function resourceName(kind: Kind): string {
  return kind.group === '' ? kind.plural : `${kind.plural}.${kind.group}`;
}

export function groupOf(apiVersion: string): string {
  return apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
}

/** The kind that an owner reference or an object names. */
export function kindFor(kinds: Kind[], apiVersion: string, kind: string): Kind | undefined {
  const group = groupOf(apiVersion);
  return kinds.find((candidate) => candidate.kind === kind && candidate.group === group);
}

/** `Ingresses`, `NetworkPolicies`: the plural with the kind's capitals. */
export function pluralOf(kind: Kind): string {
  const lower = kind.kind.toLowerCase();
  let same = 0;
  while (same < lower.length && lower[same] === kind.plural[same]) same++;
  return kind.kind.slice(0, same) + kind.plural.slice(same);
}
