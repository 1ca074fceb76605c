import { X509Certificate } from 'node:crypto';
import { expect } from 'vitest';
import type { Resource, ServiceResource, WorkloadResource } from '../../../mesh/resources.ts';
import { MeshView } from '../../../proxy/protocol/mesh-view.ts';

export function workload(name: string, address: string, more: Partial<WorkloadResource> = {}): WorkloadResource {
  return {
    kind: 'Workload',
    name: `shop/${name}`,
    namespace: 'shop',
    serviceAccount: name,
    identity: `spiffe://cluster.local/ns/shop/sa/${name}`,
    addresses: [address],
    protocol: 'HBONE',
    tunnel: null,
    workloadName: name,
    app: name,
    version: 'v1',
    canonicalService: name,
    canonicalRevision: 'v1',
    cluster: 'Kubernetes',
    plaintextPorts: [],
    ...more,
  };
}

export function service(name: string, more: Partial<ServiceResource> = {}): ServiceResource {
  return {
    kind: 'Service',
    name: `shop/${name}`,
    namespace: 'shop',
    hostname: `${name}.shop.svc.cluster.local`,
    addresses: ['10.96.0.1'],
    ports: [{ name: 'tcp', port: 80, protocol: 'tcp' }],
    endpoints: [
      { workload: 'shop/orders-1', ports: { '80': 8080 } },
      { workload: 'shop/orders-2', ports: { '80': 8080 } },
    ],
    ...more,
  };
}

export function checkRoot(pem: string): string | null {
  try {
    return new X509Certificate(pem).ca ? null : 'is not a CA certificate';
  } catch {
    return 'is not a certificate';
  }
}

export function viewOf(...upserts: Resource[]): MeshView {
  const view = new MeshView(() => null, checkRoot);
  expect(view.applyDelta({ full: true, upserts, removes: [] })).toEqual([]);
  return view;
}

export const upsert = (view: MeshView, ...upserts: unknown[]): ReturnType<MeshView['applyDelta']> =>
  view.applyDelta({ full: false, upserts: upserts as Resource[], removes: [] });

export const one = workload('orders-1', '10.0.0.1');
export const two = workload('orders-2', '10.0.0.2');
