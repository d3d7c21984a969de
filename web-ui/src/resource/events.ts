// The events that tell of an object.
import { objects, type LiveObjects } from '../api/live.svelte';
import type { Obj } from '../api/types';

/** Cluster-scoped objects have theirs in the namespace `default`. */
export function eventsOf(object: Obj): LiveObjects {
  const { namespace, name, uid } = object.metadata;
  // Node events name the node as their uid.
  const which = object.kind === 'Node' || !uid ? `involvedObject.name=${name},involvedObject.kind=${object.kind}` : `involvedObject.uid=${uid}`;
  return objects(`/api/v1/namespaces/${encodeURIComponent(namespace ?? 'default')}/events`, { fields: which });
}
