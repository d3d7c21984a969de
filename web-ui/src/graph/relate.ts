// Which objects of a namespace belong together: owners, services and their pods, ingresses and their services, what pods
// mount and name. Pure: objects in, nodes and edges out.
import type { Obj, Tree } from '../api/types';
import { matches } from '../pods/select';

export interface Thing {
  id: string;
  kind: string;
  group: string;
  namespace: string | undefined;
  name: string;
  /** Absent for what is only named by others. */
  object?: Obj;
}

export interface Edge {
  from: string;
  to: string;
  how: string;
}

export interface Graph {
  things: Thing[];
  edges: Edge[];
  /** How many were left out. */
  more: number;
}

const groupOf = (apiVersion = ''): string => (apiVersion.includes('/') ? apiVersion.split('/')[0]! : '');
const idOf = (kind: string, namespace: string | undefined, name: string): string => `${kind}/${namespace ?? ''}/${name}`;

export function relate(objects: Obj[]): { things: Map<string, Thing>; edges: Edge[] } {
  const things = new Map<string, Thing>();
  for (const object of objects) {
    const { name, namespace } = object.metadata;
    const id = idOf(object.kind ?? '', namespace, name);
    things.set(id, { id, kind: object.kind ?? '', group: groupOf(object.apiVersion), namespace, name, object });
  }
  const edges: Edge[] = [];
  /** An edge to what may not be among the objects. */
  const link = (from: string, kind: string, group: string, namespace: string | undefined, name: string | undefined, how: string, back = false): void => {
    if (!name) return;
    const to = idOf(kind, namespace, name);
    if (!things.has(to)) things.set(to, { id: to, kind, group, namespace, name });
    if (!edges.some((edge) => edge.from === (back ? to : from) && edge.to === (back ? from : to))) edges.push(back ? { from: to, to: from, how } : { from, to, how });
  };
  for (const thing of [...things.values()]) {
    if (!thing.object) continue;
    owners(thing, link);
    KINDS[thing.kind]?.(thing, thing.object, link, objects);
  }
  return { things, edges: withoutShortcuts(edges, things) };
}

/** A Service leads to its pods by its slices; what a slice lists needs no line of its own. */
function withoutShortcuts(edges: Edge[], things: Map<string, Thing>): Edge[] {
  const kind = (id: string): string => things.get(id)?.kind ?? '';
  const slices = new Map<string, string[]>();
  for (const { from, to } of edges) if (kind(from) === 'Service' && kind(to) === 'EndpointSlice') slices.set(from, [...(slices.get(from) ?? []), to]);
  const listed = new Set(edges.filter(({ from }) => kind(from) === 'EndpointSlice').map(({ from, to }) => `${from} ${to}`));
  return edges.filter(({ from, to }) => !(kind(from) === 'Service' && kind(to) === 'Pod' && slices.get(from)?.some((slice) => listed.has(`${slice} ${to}`))));
}

type Link = (from: string, kind: string, group: string, namespace: string | undefined, name: string | undefined, how: string, back?: boolean) => void;

function owners(thing: Thing, link: Link): void {
  for (const owner of thing.object?.metadata.ownerReferences ?? []) {
    // A slice's Service is found by what it routes to.
    link(thing.id, owner.kind, groupOf(owner.apiVersion), owner.kind === 'Node' ? undefined : thing.namespace, owner.name, 'owns', true);
  }
}

const KINDS: Record<string, (thing: Thing, object: Obj, link: Link, all: Obj[]) => void> = {
  Service: (thing, object, link, all) => {
    for (const pod of all) {
      if (pod.kind === 'Pod' && pod.metadata.namespace === thing.namespace && matches(object.spec?.selector, pod.metadata.labels)) link(thing.id, 'Pod', '', thing.namespace, pod.metadata.name, 'routes to');
    }
  },
  EndpointSlice: (thing, object, link) => {
    for (const endpoint of object.endpoints ?? []) if (endpoint.targetRef?.kind === 'Pod') link(thing.id, 'Pod', '', thing.namespace, endpoint.targetRef.name, 'lists');
  },
  Ingress: (thing, object, link) => {
    const backends: Tree[] = [object.spec?.defaultBackend, ...(object.spec?.rules ?? []).flatMap((rule: Tree) => (rule.http?.paths ?? []).map((path: Tree) => path.backend))];
    for (const backend of backends) link(thing.id, 'Service', '', thing.namespace, backend?.service?.name, 'routes to');
    for (const tls of object.spec?.tls ?? []) link(thing.id, 'Secret', '', thing.namespace, tls.secretName, 'shows');
  },
  Pod: (thing, object, link) => pod(thing, object.spec ?? {}, link),
  Deployment: template,
  ReplicaSet: template,
  StatefulSet: template,
  DaemonSet: template,
  Job: template,
  CronJob: (thing, object, link) => pod(thing, object.spec?.jobTemplate?.spec?.template?.spec ?? {}, link),
  HorizontalPodAutoscaler: (thing, object, link) => {
    const target = object.spec?.scaleTargetRef;
    if (target) link(thing.id, target.kind, groupOf(target.apiVersion), thing.namespace, target.name, 'scales');
  },
  PersistentVolumeClaim: (thing, object, link) => link(thing.id, 'PersistentVolume', '', undefined, object.spec?.volumeName, 'is bound to'),
};

/** What the pods of a workload will use, while there are none that say so themselves. */
function template(thing: Thing, object: Obj, link: Link, all: Obj[]): void {
  const isOf = (one: Obj): boolean => one.kind === 'Pod' && one.metadata.namespace === thing.namespace && matches(object.spec?.selector?.matchLabels, one.metadata.labels);
  // An old ReplicaSet of a Deployment wants no pods.
  if (object.spec?.template?.spec && !all.some(isOf) && !(thing.kind === 'ReplicaSet' && (object.metadata.ownerReferences ?? []).length > 0)) pod(thing, object.spec.template.spec, link);
}

function pod(thing: Thing, spec: Tree, link: Link): void {
  const uses = (kind: string, name: string | undefined, how: string): void => link(thing.id, kind, '', thing.namespace, name, how);
  for (const volume of spec.volumes ?? []) {
    uses('ConfigMap', volume.configMap?.name, 'mounts');
    uses('Secret', volume.secret?.secretName, 'mounts');
    uses('PersistentVolumeClaim', volume.persistentVolumeClaim?.claimName, 'mounts');
    // The token and the authority that every pod gets say nothing.
    if (String(volume.name).startsWith('kube-api-access-')) continue;
    for (const source of volume.projected?.sources ?? []) {
      uses('ConfigMap', source.configMap?.name, 'mounts');
      uses('Secret', source.secret?.name, 'mounts');
    }
  }
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])]) {
    for (const from of container.envFrom ?? []) (uses('ConfigMap', from.configMapRef?.name, 'reads'), uses('Secret', from.secretRef?.name, 'reads'));
    for (const { valueFrom } of container.env ?? []) (uses('ConfigMap', valueFrom?.configMapKeyRef?.name, 'reads'), uses('Secret', valueFrom?.secretKeyRef?.name, 'reads'));
  }
  for (const secret of spec.imagePullSecrets ?? []) uses('Secret', secret.name, 'pulls with');
  if (spec.serviceAccountName && spec.serviceAccountName !== 'default') uses('ServiceAccount', spec.serviceAccountName, 'runs as');
}

/** What is connected to an object, nearest first, at most so many. What everything shares is not passed through. */
export function around(objects: Obj[], centre: Obj, most: number): Graph {
  const { things, edges } = relate(objects.some((one) => one.metadata.uid === centre.metadata.uid) ? objects : [...objects, centre]);
  const start = idOf(centre.kind ?? '', centre.metadata.namespace, centre.metadata.name);
  const neighbours = new Map<string, string[]>();
  for (const { from, to } of edges) {
    neighbours.set(from, [...(neighbours.get(from) ?? []), to]);
    neighbours.set(to, [...(neighbours.get(to) ?? []), from]);
  }
  const ends = ['ConfigMap', 'Secret', 'ServiceAccount', 'Node', 'PersistentVolume'];
  const reached = new Set([start]);
  for (const id of reached) {
    if (id !== start && ends.includes(things.get(id)?.kind ?? '')) continue;
    for (const next of neighbours.get(id) ?? []) reached.add(next);
  }
  const kept = new Set([...reached].slice(0, most));
  return {
    things: [...kept].flatMap((id) => things.get(id) ?? []),
    edges: edges.filter(({ from, to }) => kept.has(from) && kept.has(to)),
    more: reached.size - kept.size,
  };
}
