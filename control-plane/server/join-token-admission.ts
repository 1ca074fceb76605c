import type { BlockList } from 'node:net';
import type { WorkloadRegistration } from '../../mesh/push.ts';
import type { SpiffeId } from '../../mesh/spiffe-id.ts';
import type { WorkloadAdmission } from '../platform.ts';
import type { RegisteredWorkload } from '../registry/registrations.ts';
import { admit } from './admission.ts';
import type { RegistrationStore } from './registration-store.ts';

export interface JoinTokenAdmissionOptions {
  readonly store: Pick<RegistrationStore, 'labelsOf'>;
  /** Blocks from which any address may be claimed. */
  readonly trustedAddresses: BlockList;
}

/** Admits what a join token stands for, where there are no other proofs of identity. */
export class JoinTokenAdmission implements WorkloadAdmission {
  readonly #options: JoinTokenAdmissionOptions;

  constructor(options: JoinTokenAdmissionOptions) {
    this.#options = options;
  }

  admit(
    workload: WorkloadRegistration,
    facts: { readonly identity: SpiffeId; readonly peerAddress: string },
  ): RegisteredWorkload {
    const { store, trustedAddresses } = this.#options;
    const boundLabels = store.labelsOf(facts.identity.uri);
    return admit(workload, { ...facts, trustedAddresses, boundLabels });
  }
}
