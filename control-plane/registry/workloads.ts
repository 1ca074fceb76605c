import type { WorkloadProtocol } from '../../mesh/resources.ts';
import { spiffeId } from '../../mesh/spiffe-id.ts';
import type { Problem } from '../../policy/types.ts';
import { isLoopback } from '../addresses.ts';
import type { WorkloadEntryObject } from './objects.ts';
import type { RegisteredWorkload } from './registrations.ts';

/** A workload from either source, before it becomes a resource. */
export interface KnownWorkload {
  /** `<namespace>/<instance>`. */
  readonly name: string;
  readonly namespace: string;
  readonly instance: string;
  readonly serviceAccount: string;
  readonly identity: string | null;
  readonly labels: { readonly [key: string]: string };
  readonly addresses: readonly string[];
  readonly protocol: WorkloadProtocol;
  readonly tunnel: { readonly address: string; readonly port: number } | null;
  readonly ports: { readonly [name: string]: number };
  /** How a service's named target is looked up: a WorkloadEntry names its ports after the service's. */
  readonly origin: 'sidecar' | 'entry';
}

export function fromRegistration({ workload, identity }: RegisteredWorkload): KnownWorkload {
  return {
    name: `${workload.namespace}/${workload.name}`,
    namespace: workload.namespace,
    instance: workload.name,
    serviceAccount: workload.serviceAccount,
    identity,
    labels: workload.labels,
    addresses: workload.addresses,
    protocol: 'HBONE',
    tunnel: workload.tunnel,
    ports: workload.ports,
    origin: 'sidecar',
  };
}

/** A workload without a sidecar of ours is plaintext, unless its label says that Istio's sidecar stands beside it. */
export function fromEntry(entry: WorkloadEntryObject, trustDomain: string): KnownWorkload {
  const istio = entry.labels['security.istio.io/tlsMode'] === 'istio';
  const serviceAccount = entry.serviceAccount ?? 'default';
  return {
    name: `${entry.namespace}/${entry.name}`,
    namespace: entry.namespace,
    instance: entry.name,
    serviceAccount,
    identity:
      istio || entry.serviceAccount !== null ? spiffeId(trustDomain, entry.namespace, serviceAccount).uri : null,
    labels: entry.labels,
    addresses: [entry.address],
    protocol: istio ? 'ISTIO' : 'NONE',
    tunnel: null,
    ports: entry.ports,
    origin: 'entry',
  };
}

/**
 * All workloads by name. Where a WorkloadEntry and a connected sidecar describe one workload (same address or name, same identity) the sidecar is
 * believed; an entry that claims what belongs to somebody else is left out and reported. Loopback addresses belong to nobody: on one machine
 * several workloads share them and differ by port.
 */
export function collectWorkloads(
  registered: readonly RegisteredWorkload[],
  entries: readonly WorkloadEntryObject[],
  trustDomain: string,
): { readonly workloads: ReadonlyMap<string, KnownWorkload>; readonly problems: readonly Problem[] } {
  const workloads = new Map<string, KnownWorkload>();
  const byAddress = new Map<string, KnownWorkload>();
  const problems: Problem[] = [];
  const add = (workload: KnownWorkload) => {
    workloads.set(workload.name, workload);
    for (const address of workload.addresses) if (!isLoopback(address)) byAddress.set(address, workload);
  };
  for (const one of registered) add(fromRegistration(one));
  for (const entry of entries) {
    const workload = fromEntry(entry, trustDomain);
    const holder = byAddress.get(entry.address) ?? workloads.get(workload.name);
    if (holder === undefined) add(workload);
    else if (holder.origin === 'entry' || !sameAccount(holder, workload)) problems.push(conflict(entry, holder));
  }
  return { workloads, problems };
}

function sameAccount(a: KnownWorkload, b: KnownWorkload): boolean {
  return a.namespace === b.namespace && a.serviceAccount === b.serviceAccount;
}

function conflict(entry: WorkloadEntryObject, holder: KnownWorkload): Problem {
  const who = holder.origin === 'sidecar' ? `the connected sidecar of ${holder.name}` : `WorkloadEntry ${holder.name}`;
  return {
    severity: 'error',
    message: `spec.address ${entry.address} already belongs to ${who}: this entry is left out; remove one of the two`,
    location: entry.manifest.locate(['spec', 'address']),
    resource: `WorkloadEntry ${entry.namespace}/${entry.name}`,
  };
}
