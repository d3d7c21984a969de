// The objects that run a program: a Deployment and a Service for what serves, a Job for what runs and ends. Pure.
import type { Obj, Tree } from '../api/types';
import { parse } from './name';

/** Where a service listens unless it is told otherwise. */
const PORT = 8080;

/** What is known of a program. */
export interface Program {
  kind?: string;
  worlds?: string[];
  imports?: string[];
  exports?: string[];
  producers?: Record<string, { name: string; version: string }[]>;
}

/** Whether it answers requests, by the world that it is for. */
export function serves(program: Program): boolean {
  return (program.worlds ?? []).some((world) => world.startsWith('wasi:http/'));
}

/** The objects for an image, as people would write them. */
export function objectsFor(image: string, namespace: string, name: string, program: Program): Obj[] {
  const app = parse(name).name;
  const labels = { 'app.kubernetes.io/name': app };
  const metadata = { name: app, namespace, labels };
  const container: Tree = { name: app, image };
  if (!serves(program)) {
    const template = { metadata: { labels }, spec: { restartPolicy: 'Never', containers: [container] } };
    return [{ apiVersion: 'batch/v1', kind: 'Job', metadata, spec: { backoffLimit: 2, template } }];
  }
  container.ports = [{ name: 'http', containerPort: PORT }];
  container.readinessProbe = { tcpSocket: { port: 'http' } };
  const template = { metadata: { labels }, spec: { containers: [container] } };
  return [
    { apiVersion: 'apps/v1', kind: 'Deployment', metadata, spec: { replicas: 1, selector: { matchLabels: labels }, template } },
    { apiVersion: 'v1', kind: 'Service', metadata, spec: { selector: labels, ports: [{ name: 'http', port: 80, targetPort: 'http' }] } },
  ];
}

export interface Address {
  /** Who reaches it there. */
  from: string;
  url: string;
}

/** Where a Service answers. */
export function addresses(service: Obj, domain = 'cluster.local'): Address[] {
  const { spec = {}, status = {}, metadata } = service;
  const found: Address[] = [];
  for (const port of spec.ports ?? []) {
    const at = (host: string, number: number): string => `http://${host.includes(':') ? `[${host}]` : host}${number === 80 ? '' : `:${number}`}/`;
    found.push({ from: 'pods', url: at(`${metadata.name}.${metadata.namespace}.svc.${domain}`, port.port) });
    if (spec.clusterIP && spec.clusterIP !== 'None') found.push({ from: 'nodes', url: at(spec.clusterIP, port.port) });
    for (const { ip, hostname } of status.loadBalancer?.ingress ?? []) if (ip || hostname) found.push({ from: 'outside', url: at(ip || hostname, port.port) });
    if (port.nodePort) found.push({ from: 'outside, at every node', url: at('NODE', port.nodePort) });
  }
  return found;
}
