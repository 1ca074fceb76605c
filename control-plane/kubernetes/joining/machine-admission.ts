import type { WorkloadRegistration } from '../../../mesh/push.ts';
import { TUNNEL_PORT } from '../../../mesh/resources.ts';
import type { SpiffeId } from '../../../mesh/spiffe-id.ts';
import { ApiError } from '../../api-error.ts';
import type { WorkloadAdmission } from '../../platform.ts';
import type { RegisteredWorkload } from '../../registry/registrations.ts';
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
    const { name, namespace, labels, address, ports } = entry;
    const { tunnel } = workload;
    const foreign = [...workload.addresses, ...(tunnel === null ? [] : [tunnel.address])].find(
      (one) => one !== address,
    );
    if (foreign !== undefined) {
      const message = `the address ${foreign} is not that of WorkloadEntry ${namespace}/${name}, ${address}`;
      throw new ApiError(403, 'address-not-allowed', message);
    }
    // Others look for it there, since a WorkloadEntry says nothing of it.
    if (tunnel !== null && tunnel.port !== TUNNEL_PORT) {
      const message = `the tunnel of a machine outside of the cluster is on port ${TUNNEL_PORT}, not ${tunnel.port}`;
      throw new ApiError(403, 'address-not-allowed', message);
    }
    const { serviceAccount } = identity;
    return {
      workload: { name, namespace, serviceAccount, labels, addresses: [address], tunnel: null, ports },
      identity: identity.uri,
      isDeclared: true,
    };
  }
}
