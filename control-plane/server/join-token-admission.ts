import type { BlockList } from 'node:net';
import type { WorkloadRegistration } from '../../mesh/push.ts';
import type { SpiffeId } from '../../mesh/spiffe-id.ts';
import { ApiError } from '../api-error.ts';
import type { WorkloadAdmission } from '../platform.ts';
import type { RegisteredWorkload } from '../registry/registrations.ts';
import { admit } from './admission.ts';
import type { RegistrationStore } from './registration-store.ts';

export interface JoinTokenAdmissionOptions {
  readonly store: Pick<RegistrationStore, 'labelsOf'>;
  /** Blocks from which any address may be claimed. */
  readonly trustedAddresses: BlockList;
  /**
   * Only identities whose join tokens named labels may register. Needed where identities are proven in other ways too: a workload that got its
   * certificate in one of those could otherwise register a second one under any name, with labels of its choice, and draw a service's traffic.
   * Default false.
   */
  readonly requireLabels?: boolean;
}

/** Admits what a join token stands for: machines outside a cluster, or everything where there is none. */
export class JoinTokenAdmission implements WorkloadAdmission {
  readonly #options: JoinTokenAdmissionOptions;

  constructor(options: JoinTokenAdmissionOptions) {
    this.#options = options;
  }

  admit(
    workload: WorkloadRegistration,
    facts: { readonly identity: SpiffeId; readonly peerAddress: string },
  ): RegisteredWorkload {
    const { store, trustedAddresses, requireLabels = false } = this.#options;
    const boundLabels = store.labelsOf(facts.identity.uri);
    if (boundLabels === null && requireLabels) {
      const message = `${workload.namespace}/${workload.name} is no pod, and no join token of ${facts.identity.uri} named labels: make one with labels where it is a machine outside the cluster`;
      throw new ApiError(403, 'label-mismatch', message);
    }
    return admit(workload, { ...facts, trustedAddresses, boundLabels });
  }
}
