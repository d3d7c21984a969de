// Where kinds stand in the navigation; what is not named here stands under its API group. Pure.
import type { Kind } from '../api/discovery';

export interface Section {
  name: string;
  kinds: Kind[];
  /** What people seldom look at: folded away until it is asked for. */
  more: boolean;
}

const PLACES: [string, string[]][] = [
  ['Workloads', ['pods', 'deployments.apps', 'statefulsets.apps', 'daemonsets.apps', 'replicasets.apps', 'jobs.batch', 'cronjobs.batch', 'horizontalpodautoscalers.autoscaling', 'poddisruptionbudgets.policy', 'images.registry.wherry.dev']],
  ['Network', ['services', 'ingresses.networking.k8s.io', 'endpointslices.discovery.k8s.io', 'networkpolicies.networking.k8s.io', 'ingressclasses.networking.k8s.io']],
  ['Configuration', ['configmaps', 'secrets', 'resourcequotas', 'limitranges', 'priorityclasses.scheduling.k8s.io', 'runtimeclasses.node.k8s.io']],
  ['Storage', ['persistentvolumeclaims', 'persistentvolumes', 'storageclasses.storage.k8s.io', 'volumeattachments.storage.k8s.io']],
  ['Access', ['serviceaccounts', 'roles.rbac.authorization.k8s.io', 'rolebindings.rbac.authorization.k8s.io', 'clusterroles.rbac.authorization.k8s.io', 'clusterrolebindings.rbac.authorization.k8s.io', 'certificatesigningrequests.certificates.k8s.io']],
  ['Cluster', ['nodes', 'namespaces', 'events', 'leases.coordination.k8s.io', 'customresourcedefinitions.apiextensions.k8s.io', 'apiservices.apiregistration.k8s.io']],
];

/** Groups of Kubernetes' own, and of this server. */
const builtIn = (group: string): boolean => !group.includes('.') || /(^|\.)(k8s\.io|wherry\.dev)$/.test(group);

const nameOf = (kind: Kind): string => (kind.group ? `${kind.plural}.${kind.group}` : kind.plural);

export function sections(kinds: Kind[]): Section[] {
  const listed = new Map(kinds.filter((kind) => kind.verbs.includes('list')).map((kind) => [nameOf(kind), kind]));
  const known: Section[] = PLACES.map(([name, members]) => ({
    name,
    more: false,
    kinds: members.flatMap((member) => {
      const kind = listed.get(member);
      listed.delete(member);
      return kind ? [kind] : [];
    }),
  }));
  // Two names of the same thing; and what is used, which stands where it is used.
  for (const known of ['events.events.k8s.io', 'pods.metrics.k8s.io', 'nodes.metrics.k8s.io']) listed.delete(known);
  const rest = new Map<string, Kind[]>();
  for (const kind of listed.values()) rest.set(kind.group, [...(rest.get(kind.group) ?? []), kind]);
  const more = [...rest].sort(([a], [b]) => a.localeCompare(b)).map(([group, members]) => ({ name: group || 'core', kinds: members, more: builtIn(group) }));
  // What was installed comes before what every cluster has.
  return [...known, ...more.filter((section) => !section.more), ...more.filter((section) => section.more)].filter((section) => section.kinds.length > 0);
}
