// Which pods run Wasm: their containers' ids say it. Pure.
import type { Obj, Tree } from '../api/types';

export function runsWasm(pod: Obj): boolean {
  return (pod.status?.containerStatuses ?? []).some((status: Tree) => status.state?.running && String(status.containerID ?? '').includes('://wasm-'));
}
