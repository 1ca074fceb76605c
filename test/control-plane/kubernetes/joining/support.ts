import { addressSet } from '../../../../control-plane/addresses.ts';
import { Machines } from '../../../../control-plane/kubernetes/joining/machines.ts';
import type { Manifest } from '../../../../policy/types.ts';
import { objectOf } from '../../registry/support.ts';

export const SYSTEM = 'postern-system';
/** Of the machine, outside of the cluster. */
export const ADDRESS = '192.0.2.1';

export interface EntryShape {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string | null;
  readonly address: string;
  readonly labels: { readonly [key: string]: string };
}

/** WorkloadEntry shop/vm-1 with the account `legacy`, and a sidecar. */
export function entryOf(shape: Partial<EntryShape> = {}): Manifest {
  const { name, namespace, serviceAccount, address, labels } = {
    name: 'vm-1',
    namespace: 'shop',
    serviceAccount: 'legacy',
    address: ADDRESS,
    labels: { app: 'legacy', 'networking.istio.io/tunnel': 'http' },
    ...shape,
  };
  const spec = { address, labels, ports: { http: 8080 }, ...(serviceAccount === null ? {} : { serviceAccount }) };
  return objectOf('networking.istio.io/v1', 'WorkloadEntry', namespace, name, { spec });
}

export function machinesOf(manifests: () => readonly Manifest[], trusted: readonly string[] = []): Machines {
  const trustedAddresses = addressSet(trusted);
  if (trustedAddresses === null) throw new Error('a test with wrong addresses');
  return new Machines({ manifests, trustedAddresses, namespace: SYSTEM });
}
