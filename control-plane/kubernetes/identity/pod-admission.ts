import type { WorkloadRegistration } from '../../../mesh/push.ts';
import type { SpiffeId } from '../../../mesh/spiffe-id.ts';
import { ApiError } from '../../api-error.ts';
import type { WorkloadAdmission } from '../../platform.ts';
import type { RegisteredWorkload } from '../../registry/registrations.ts';
import { type Declaration, registeredAs } from './declared-workload.ts';
import type { PodFault } from './pod-check.ts';
import type { PodFacts } from './pod-facts.ts';
import type { PodLookup } from './pod-lookup.ts';

export interface PodAdmissionOptions {
  readonly pods: PodLookup;
  /**
   * Asked where no pod has the name. It must demand more than a certificate, or any pod could register a second workload with labels of its choice.
   */
  readonly machines: WorkloadAdmission;
}

/** Admits pods: who registers must be the pod of that name, and what counts is what the API server says of it. */
export class PodAdmission implements WorkloadAdmission {
  readonly #options: PodAdmissionOptions;

  constructor(options: PodAdmissionOptions) {
    this.#options = options;
  }

  /** @throws ApiError 403 `identity-mismatch`, `pod-mismatch`, `address-not-allowed`; 503 `pod-unknown`; what `machines` throws */
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
        return { ...registeredAs(declarationOf(answer.pod), workload, identity), podUid: answer.pod.uid };
      case 'fault':
        throw refusalOf(answer.fault);
      case 'absent':
        return await this.#options.machines.admit(workload, facts);
      case 'unknown':
        return await this.#withoutAsking(workload, facts);
    }
  }

  /** While the API server is away a machine that is known as such is let in, for no pod is known that has its name. */
  async #withoutAsking(...[workload, facts]: Parameters<WorkloadAdmission['admit']>): Promise<RegisteredWorkload> {
    try {
      return await this.#options.machines.admit(workload, facts);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { namespace, name } = workload;
      throw new ApiError(503, 'pod-unknown', `the pod ${namespace}/${name} is not known here yet: try again`);
    }
  }
}

function declarationOf(pod: PodFacts): Declaration {
  const { namespace, name, addresses } = pod;
  return { ...pod, kind: 'a pod', owner: `one of the pod ${namespace}/${name} (${addresses.join(', ')})` };
}

function refusalOf({ kind, message }: PodFault): ApiError {
  if (kind === 'early') return new ApiError(503, 'pod-unknown', message);
  return new ApiError(403, kind === 'address' ? 'address-not-allowed' : 'pod-mismatch', message);
}
