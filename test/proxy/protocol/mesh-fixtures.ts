import { X509Certificate } from 'node:crypto';
import { expect } from 'vitest';
import type { Resource, ServiceResource } from '../../../mesh/resources.ts';
import { MeshView } from '../../../proxy/protocol/mesh-view.ts';
import { workloadResource } from '../support/workload-resource.ts';

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

export const one = workloadResource('orders-1', '10.0.0.1');
export const two = workloadResource('orders-2', '10.0.0.2');
