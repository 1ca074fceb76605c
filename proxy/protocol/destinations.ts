import {
  type ServicePort,
  type ServiceResource,
  TUNNEL_PORT,
  type WorkloadProtocol,
  type WorkloadResource,
} from '../../mesh/resources.ts';

/** One workload that serves a port, and how to reach it. */
export interface Endpoint {
  /** The workload's name. */
  readonly name: string;
  readonly workload: WorkloadResource;
  readonly address: string;
  /** The workload's port, not the service's. */
  readonly port: number;
  /** As the workload's, but NONE at ports where it wants plaintext. */
  readonly protocol: WorkloadProtocol;
  /** Where its tunnel listens; null unless `protocol` is HBONE. */
  readonly tunnel: { readonly address: string; readonly port: number } | null;
}

/** A port of a service with who serves it. Immutable: after any change that concerns it there is another object with a higher version. */
export interface ServiceDestination {
  readonly kind: 'service';
  readonly service: ServiceResource;
  readonly port: ServicePort;
  readonly endpoints: readonly Endpoint[];
  /** Unique in the mesh view that made it; rises with every change. */
  readonly version: number;
}

/** A port of one workload, called by its own address. Immutable, as above. */
export interface WorkloadDestination {
  readonly kind: 'workload';
  readonly workload: WorkloadResource;
  readonly port: number;
  readonly endpoint: Endpoint;
  readonly version: number;
}

export type Destination = ServiceDestination | WorkloadDestination | { readonly kind: 'unknown' };

export const UNKNOWN_DESTINATION: Destination = Object.freeze({ kind: 'unknown' });

export function endpointAt(workload: WorkloadResource, port: number): Endpoint {
  // The resource was read strictly: it has an address.
  const address = workload.addresses[0] ?? '';
  const protocol = workload.plaintextPorts.includes(port) ? 'NONE' : workload.protocol;
  const tunnel = protocol === 'HBONE' ? (workload.tunnel ?? { address, port: TUNNEL_PORT }) : null;
  return { name: workload.name, workload, address, port, protocol, tunnel };
}
