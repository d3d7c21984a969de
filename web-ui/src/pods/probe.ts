// A probe in words. Pure.
import type { Tree } from '../api/types';

export function probeWords(probe: Tree): string {
  const what = probe.httpGet
    ? `GET ${(probe.httpGet.scheme ?? 'HTTP').toLowerCase()}://:${probe.httpGet.port}${probe.httpGet.path ?? '/'}`
    : probe.tcpSocket
      ? `connect to port ${probe.tcpSocket.port}`
      : probe.grpc
        ? `gRPC health at port ${probe.grpc.port}`
        : `run ${(probe.exec?.command ?? []).join(' ')}`;
  return `${what} every ${probe.periodSeconds ?? 10} s`;
}
