// Rollouts of Deployments, StatefulSets and DaemonSets: how far one is, what came before, and what undoes it. Pure.
import type { Obj, Tree } from '../api/types';

export interface Progress {
  /** 0 to 1. */
  done: number;
  words: string;
  finished: boolean;
}

export function progress(workload: Obj): Progress {
  const { spec = {}, status = {}, metadata } = workload;
  const daemon = workload.kind === 'DaemonSet';
  const wanted: number = daemon ? (status.desiredNumberScheduled ?? 0) : (spec.replicas ?? 1);
  const updated: number = (daemon ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0;
  const available: number = (daemon ? status.numberAvailable : (status.availableReplicas ?? status.readyReplicas)) ?? 0;
  const total: number = daemon ? wanted : (status.replicas ?? 0);
  if ((status.observedGeneration ?? 0) < (metadata.generation ?? 0)) return { done: 0, words: 'The change has not been seen yet.', finished: false };
  const done = wanted === 0 ? 1 : (Math.min(updated, wanted) + Math.min(available, updated, wanted)) / (2 * wanted);
  if (updated < wanted) return { done, words: `${updated} of ${wanted} pods are of the newest revision.`, finished: false };
  if (total > updated) return { done, words: `${total - updated} pods of older revisions are to end.`, finished: false };
  if (available < wanted) return { done, words: `${available} of ${wanted} pods are available.`, finished: false };
  return { done: 1, words: wanted === 0 ? 'Scaled to none.' : `All ${wanted} pods are of the newest revision and available.`, finished: true };
}

export interface Revision {
  number: number;
  name: string;
  created: string | undefined;
  images: string[];
  cause: string;
  current: boolean;
  /** The pod template that it has. */
  template: Tree;
}

const REVISION = 'deployment.kubernetes.io/revision';
const CAUSE = 'kubernetes.io/change-cause';

const owned = (owner: Obj) => (object: Obj): boolean =>
  (object.metadata.ownerReferences ?? []).some((reference) => reference.uid === owner.metadata.uid && reference.controller);

/** The revisions of a workload, newest first: a Deployment's in ReplicaSets, the others' in ControllerRevisions. */
export function history(workload: Obj, replicaSets: Obj[], controllerRevisions: Obj[]): Revision[] {
  const revisions = workload.kind === 'Deployment' ? replicaSets.filter(owned(workload)).map(ofReplicaSet) : controllerRevisions.filter(owned(workload)).map(ofControllerRevision);
  revisions.sort((a, b) => b.number - a.number);
  const current = workload.kind === 'Deployment' ? Number(workload.metadata.annotations?.[REVISION] ?? revisions[0]?.number) : (revisions.find((one) => one.name === workload.status?.updateRevision)?.number ?? revisions[0]?.number);
  return revisions.map((revision) => ({ ...revision, current: revision.number === current }));
}

function ofReplicaSet(set: Obj): Revision {
  const template = structuredClone(set.spec?.template ?? {});
  // The Deployment's controller puts it in; a template that has it would make a revision of its own.
  delete template.metadata?.labels?.['pod-template-hash'];
  return { ...about(set, template), number: Number(set.metadata.annotations?.[REVISION] ?? 0) };
}

function ofControllerRevision(revision: Obj): Revision {
  const { $patch: _, ...template } = revision.data?.spec?.template ?? {};
  return { ...about(revision, template), number: revision.revision ?? 0 };
}

function about(object: Obj, template: Tree): Omit<Revision, 'number'> {
  return {
    name: object.metadata.name,
    created: object.metadata.creationTimestamp,
    images: (template.spec?.containers ?? []).map((container: Tree) => container.image),
    cause: object.metadata.annotations?.[CAUSE] ?? '',
    current: false,
    template,
  };
}

/** A JSON patch that brings a revision back; refused by the server where the template has changed meanwhile. */
export function undo(workload: Obj, revision: Revision): Tree[] {
  return [
    { op: 'test', path: '/metadata/uid', value: workload.metadata.uid },
    { op: 'test', path: '/metadata/generation', value: workload.metadata.generation },
    { op: 'replace', path: '/spec/template', value: revision.template },
  ];
}

/** A patch that restarts every pod, as `kubectl rollout restart`. */
export function restart(now: Date): Tree {
  return { spec: { template: { metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': now.toISOString().replace(/\.\d+/, '') } } } } };
}
