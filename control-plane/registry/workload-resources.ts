import type { WorkloadResource } from '../../mesh/resources.ts';
import { telemetryFields } from '../../mesh/telemetry-labels.ts';
import type { CompiledAuthentication } from '../../policy/types.ts';
import type { KnownWorkload } from './workloads.ts';

/** A workload that did not change keeps its resource, unless other ports of it are in plaintext now, or others came to or left its address. */
const made = new WeakMap<KnownWorkload, WorkloadResource>();

/**
 * @param served the ports that services lead to
 * @param shared whether somebody else may be at its addresses
 */
export function workloadResource(
  workload: KnownWorkload,
  served: ReadonlySet<number> | undefined,
  authentication: CompiledAuthentication,
  shared: boolean,
): WorkloadResource {
  const plaintextPorts = plaintextOf(workload, served, authentication);
  const before = made.get(workload);
  const isSame = before !== undefined && sameNumbers(before.plaintextPorts, plaintextPorts);
  if (isSame && (before.hostNetwork === true) === shared) return before;
  const { name, namespace, instance, serviceAccount, identity, labels, addresses, protocol, tunnel } = workload;
  const resource: WorkloadResource = {
    kind: 'Workload',
    name,
    namespace,
    serviceAccount,
    identity,
    addresses,
    protocol,
    tunnel,
    ...telemetryFields(labels, instance),
    plaintextPorts,
    ...(shared ? { hostNetwork: true } : {}),
  };
  made.set(workload, resource);
  return resource;
}

function plaintextOf(
  { ports }: KnownWorkload,
  served: ReadonlySet<number> | undefined,
  authentication: CompiledAuthentication,
): readonly number[] {
  const candidates = new Set([...(served ?? []), ...Object.values(ports), ...authentication.ports]);
  return [...candidates].filter((port) => authentication.mode(port) === 'DISABLE').sort((a, b) => a - b);
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}
