// Sends a program to the cluster's registry as it is read from the disk, and tells how far it is. XMLHttpRequest is what
// tells of an upload's progress; `fetch` does not.
import { ApiError, apiError, authorization, base, query, Unreachable } from '../api/client';
import { pathOf, type Kind } from '../api/discovery';
import type { Obj, Status } from '../api/types';

export interface Upload {
  /** 0 to 1; 1 while the server looks into the program. */
  onprogress: (done: number) => void;
  signal: AbortSignal;
}

/** Uploads; the image that was made. */
export function upload(kind: Kind, namespace: string, name: string, program: Blob, { onprogress, signal }: Upload): Promise<Obj> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', base + pathOf(kind, namespace) + query({ name }));
    request.setRequestHeader('Content-Type', 'application/wasm');
    request.setRequestHeader('Accept', 'application/json');
    const signed = authorization();
    if (signed) request.setRequestHeader('Authorization', signed);
    request.upload.onprogress = (event) => event.lengthComputable && onprogress(event.loaded / event.total);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText) as Obj);
      else reject(apiError(request.status, request.responseText));
    };
    // A server that refuses early may close the connection before the browser has sent all of it.
    request.onerror = () => reject(new Unreachable('The upload broke off: the server did not take it, or went away.'));
    request.onabort = () => reject(new DOMException('The upload was given up.', 'AbortError'));
    signal.addEventListener('abort', () => request.abort(), { once: true });
    request.send(program);
  });
}

/** What nodes do not offer of what a program wants, by name, from the server's refusal. */
export function lacking(status: Status | undefined): string[] {
  const causes = status?.details?.causes ?? [];
  return causes.flatMap(({ field = '' }) => /^imports\[(.+)\]$/.exec(field)?.[1] ?? []);
}

/** Whether the beginning of a file is that of a Wasm binary: what is none is not sent at all. */
export async function isWasm(file: Blob): Promise<boolean> {
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  return head.length === 4 && [0, 0x61, 0x73, 0x6d].every((byte, index) => head[index] === byte);
}

export { ApiError };
