import type { JsonObject } from '../../policy/types.ts';

/** A cluster of the size that a suite wants: every service has as many pods as the others, each pod injected. */
export interface ClusterSize {
  readonly namespaces: number;
  readonly services: number;
  readonly pods: number;
}

export const STATUS = JSON.stringify({ version: 'bench' });

export function namespaceOf(index: number, { namespaces }: ClusterSize): string {
  return `team-${index % namespaces}`;
}

export function namespaceObject(name: string): JsonObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { 'postern.dev/inject': 'enabled' } } };
}

export function serviceAccountObject(namespace: string): JsonObject {
  return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { namespace, name: 'app' } };
}

export function serviceObject(index: number, size: ClusterSize): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: namespaceOf(index, size), name: `service-${index}` },
    spec: { selector: { app: `service-${index}` }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  };
}

/** Pod `index` belongs to service `index` modulo their number. Loopback addresses: those who connect as pods must come from them. */
export function podObject(index: number, size: ClusterSize, generation = 0): JsonObject {
  const service = index % size.services;
  const address = `127.${10 + generation}.${index >> 8}.${index & 255}`;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: namespaceOf(service, size),
      name: podName(index, generation),
      labels: { app: `service-${service}`, version: 'v1' },
      annotations: { 'postern.dev/status': STATUS },
    },
    spec: {
      serviceAccountName: 'app',
      nodeName: `node-${index % 100}`,
      containers: [
        {
          name: 'app',
          image: 'app:1',
          ports: [{ name: 'http', containerPort: 8080 }],
          env: [{ name: 'A', value: 'b' }],
        },
        { name: 'postern-proxy', image: 'postern:1' },
      ],
    },
    status: {
      phase: 'Running',
      podIP: address,
      podIPs: [{ ip: address }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}

export function podName(index: number, generation = 0): string {
  return `service-pod-${index}-${generation}`;
}

/** Allows one path; `turn` makes each version another. */
export function policyObject(namespace: string, turn: number): JsonObject {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { namespace, name: 'measured' },
    spec: { action: 'ALLOW', rules: [{ to: [{ operation: { paths: [`/turn/${turn}`] } }] }] },
  };
}
