import type { WorkloadRegistration } from '../../../mesh/push.ts';
import type { SpiffeId } from '../../../mesh/spiffe-id.ts';
import { ApiError } from '../../api-error.ts';
import type { WorkloadAdmission } from '../../platform.ts';
import type { RegisteredWorkload } from '../../registry/registrations.ts';
import type { PodFault } from './pod-check.ts';
import type { PodFacts } from './pod-facts.ts';
import type { PodLookup } from './pod-lookup.ts';

export interface PodAdmissionOptions {
  readonly pods: PodLookup;
  /**
   * For machines outside the cluster: asked where no pod has the name. It must demand more than a certificate, or any pod could register a second workload
   * with labels of its choice. Null: only pods.
   */
  readonly fallback: WorkloadAdmission | null;
}

/** Where injected sidecars have their tunnel. */
const TUNNEL_PORT = 15008;

/** Admits pods: who registers must be the pod of that name, and what counts is what the API server says of it. */
export class PodAdmission implements WorkloadAdmission {
  readonly #options: PodAdmissionOptions;

  constructor(options: PodAdmissionOptions) {
    this.#options = options;
  }

  /** @throws ApiError 403 `identity-mismatch`, `pod-mismatch`, `address-not-allowed`; 503 `pod-unknown`; what `fallback` throws */
  async admit(
    workload: WorkloadRegistration,
    facts: { readonly identity: SpiffeId; readonly peerAddress: string },
  ): Promise<RegisteredWorkload> {
    const { identity, peerAddress } = facts;
    const { name, namespace, serviceAccount } = workload;
    if (namespace !== identity.namespace || serviceAccount !== identity.serviceAccount) {
      const message = `the workload claims the service account ${namespace}/${serviceAccount}, the certificate says ${identity.uri}`;
      throw new ApiError(403, 'identity-mismatch', message);
    }
    const answer = await this.#options.pods.find({ namespace, name, uid: null, serviceAccount, peerAddress });
    switch (answer.kind) {
      case 'pod':
        return registeredAs(answer.pod, workload, identity);
      case 'fault':
        throw refusalOf(answer.fault);
      case 'unknown':
        throw new ApiError(503, 'pod-unknown', `the pod ${namespace}/${name} is not known here yet: try again`);
      case 'absent':
        if (this.#options.fallback !== null) return await this.#options.fallback.admit(workload, facts);
        throw new ApiError(403, 'pod-mismatch', `there is no pod ${namespace}/${name}`);
    }
  }
}

function registeredAs(pod: PodFacts, workload: WorkloadRegistration, identity: SpiffeId): RegisteredWorkload {
  const { name, namespace, uid, serviceAccount, labels, addresses, ports } = pod;
  const { tunnel } = workload;
  const foreign = [...workload.addresses, ...(tunnel === null ? [] : [tunnel.address])].find(
    (address) => !addresses.includes(address),
  );
  if (foreign !== undefined) {
    const message = `the address ${foreign} is not one of the pod ${namespace}/${name} (${addresses.join(', ')})`;
    throw new ApiError(403, 'address-not-allowed', message);
  }
  if (tunnel !== null && tunnel.port !== TUNNEL_PORT) {
    throw new ApiError(403, 'address-not-allowed', `the tunnel of a pod is on port ${TUNNEL_PORT}, not ${tunnel.port}`);
  }
  return {
    workload: { name, namespace, serviceAccount, labels, addresses, tunnel: null, ports },
    identity: identity.uri,
    isPod: true,
    podUid: uid,
  };
}

function refusalOf({ kind, message }: PodFault): ApiError {
  if (kind === 'early') return new ApiError(503, 'pod-unknown', message);
  return new ApiError(403, kind === 'address' ? 'address-not-allowed' : 'pod-mismatch', message);
}
