import type { WorkloadResource } from '../../../mesh/resources.ts';

/** A workload of the namespace `shop` that has a sidecar, with an account and labels of its name. */
export function workloadResource(
  name: string,
  address: string,
  more: Partial<WorkloadResource> = {},
): WorkloadResource {
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
