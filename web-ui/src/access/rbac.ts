// Who can do what with a kind, from the roles and bindings. Pure. Other authorizers are not seen here.
import type { Kind } from '../api/discovery';
import type { Obj, Tree } from '../api/types';

export const VERBS = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete', 'deletecollection'];

export interface Rule {
  verbs: string[];
  apiGroups?: string[];
  resources?: string[];
  resourceNames?: string[];
  nonResourceURLs?: string[];
}

export interface Grant {
  subject: string;
  /** By verb: the roles that allow it; `some` where only objects of certain names. */
  verbs: Map<string, { via: string[]; some: boolean }>;
}

const has = (list: string[] | undefined, wanted: string): boolean => (list ?? []).some((one) => one === '*' || one === wanted);

/** The verbs that rules allow on a kind; `true` where on all names. */
export function allowed(rules: Rule[], kind: Kind, sub = ''): Map<string, boolean> {
  const found = new Map<string, boolean>();
  const resource = sub ? `${kind.plural}/${sub}` : kind.plural;
  for (const rule of rules) {
    const fits = has(rule.resources, resource) || (sub !== '' && (rule.resources ?? []).includes(`*/${sub}`));
    if (!has(rule.apiGroups, kind.group) || !fits) continue;
    const all = (rule.resourceNames ?? []).length === 0;
    for (const verb of VERBS) if (has(rule.verbs, verb)) found.set(verb, all || found.get(verb) === true);
  }
  return found;
}

export interface Policy {
  roles: Obj[];
  clusterRoles: Obj[];
  bindings: Obj[];
  clusterBindings: Obj[];
}

/** Who may do something with a kind in a namespace; '' is the whole cluster. */
export function matrix(policy: Policy, kind: Kind, namespace: string): Grant[] {
  const grants = new Map<string, Grant>();
  const bindings = [...policy.clusterBindings, ...(kind.namespaced && namespace ? policy.bindings.filter((one) => one.metadata.namespace === namespace) : [])];
  for (const binding of bindings) {
    const role = roleOf(policy, binding);
    const verbs = allowed((role?.rules ?? []) as Rule[], kind);
    if (verbs.size === 0) continue;
    for (const subject of (binding.subjects ?? []) as Tree[]) {
      const name = words(subject, binding.metadata.namespace);
      const grant = grants.get(name) ?? { subject: name, verbs: new Map() };
      grants.set(name, grant);
      for (const [verb, all] of verbs) {
        const known = grant.verbs.get(verb);
        const via = `${binding.roleRef?.kind} ${binding.roleRef?.name}`;
        grant.verbs.set(verb, { via: [...new Set([...(known?.via ?? []), via])], some: !all && (known?.some ?? true) });
      }
    }
  }
  return [...grants.values()].sort((a, b) => a.subject.localeCompare(b.subject));
}

function roleOf(policy: Policy, binding: Obj): Obj | undefined {
  const { kind, name } = binding.roleRef ?? {};
  return kind === 'ClusterRole' ? policy.clusterRoles.find((role) => role.metadata.name === name) : policy.roles.find((role) => role.metadata.name === name && role.metadata.namespace === binding.metadata.namespace);
}

const words = (subject: Tree, namespace: string | undefined): string =>
  subject.kind === 'ServiceAccount' ? `ServiceAccount ${subject.namespace ?? namespace}/${subject.name}` : `${subject.kind} ${subject.name}`;
