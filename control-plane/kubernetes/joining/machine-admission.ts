import type { WorkloadRegistration } from '../../../mesh/push.ts';
import type { SpiffeId } from '../../../mesh/spiffe-id.ts';
import type { WorkloadAdmission } from '../../platform.ts';
import type { RegisteredWorkload } from '../../registry/registrations.ts';
import { registeredAs } from '../identity/declared-workload.ts';
import type { Machines } from './machines.ts';

/** Admits machines outside of the cluster: who registers must be where the WorkloadEntry of that name says, and what counts is what that says. */
export class MachineAdmission implements WorkloadAdmission {
  readonly #machines: Machines;

  constructor(machines: Machines) {
    this.#machines = machines;
  }

  /** @throws ApiError 403 `entry-mismatch`, `address-not-allowed` */
  admit(
    workload: WorkloadRegistration,
    { identity, peerAddress }: { readonly identity: SpiffeId; readonly peerAddress: string },
  ): RegisteredWorkload {
    const entry = this.#machines.named(workload.name, identity, peerAddress);
    const { namespace, name, address } = entry;
    const declaration = {
      ...entry,
      serviceAccount: identity.serviceAccount,
      addresses: [address],
      kind: 'a machine outside of the cluster',
      owner: `that of WorkloadEntry ${namespace}/${name}, ${address}`,
    };
    return registeredAs(declaration, workload, identity);
  }
}
