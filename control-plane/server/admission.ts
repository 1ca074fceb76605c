import type { BlockList } from 'node:net';
import type { WorkloadRegistration } from '../../mesh/push.ts';
import type { SpiffeId } from '../../mesh/spiffe-id.ts';
import { isLoopback, setContains } from '../addresses.ts';
import { ApiError } from '../api-error.ts';
import type { RegisteredWorkload } from '../registry/registrations.ts';
import { sameLabels } from './registration-store.ts';

/** What a registration is checked against: what its sender has proven, not what it says. */
export interface AdmissionFacts {
  readonly identity: SpiffeId;
  /** Canonical address of the TCP peer. */
  readonly peerAddress: string;
  /** Blocks from which any address may be claimed. */
  readonly trustedAddresses: BlockList;
  /** Label sets that the identity's join tokens named; null: none did. */
  readonly boundLabels: readonly { readonly [key: string]: string }[] | null;
}

/**
 * Whether a sidecar may stand for this workload.
 *
 * @throws ApiError 403 `identity-mismatch`, `label-mismatch`, `address-not-allowed`
 */
export function admit(workload: WorkloadRegistration, facts: AdmissionFacts): RegisteredWorkload {
  const { identity, peerAddress, trustedAddresses, boundLabels } = facts;
  if (workload.namespace !== identity.namespace || workload.serviceAccount !== identity.serviceAccount) {
    const claimed = `${workload.namespace}/${workload.serviceAccount}`;
    const message = `the workload claims the service account ${claimed}, the certificate says ${identity.uri}`;
    throw new ApiError(403, 'identity-mismatch', message);
  }
  if (boundLabels !== null && !boundLabels.some((labels) => sameLabels(labels, workload.labels))) {
    const message = 'the labels are not those that a join token of this identity named: make a token with these labels';
    throw new ApiError(403, 'label-mismatch', message);
  }
  const addresses = workload.addresses.length === 0 ? [peerAddress] : workload.addresses;
  const claimed = workload.tunnel === null ? addresses : [...addresses, workload.tunnel.address];
  for (const address of claimed) {
    const allowed =
      address === peerAddress ||
      (isLoopback(address) && isLoopback(peerAddress)) ||
      setContains(trustedAddresses, address);
    if (allowed) continue;
    const message = `the address ${address} is not the one this connection comes from (${peerAddress}): list it under trustedAddresses of the control plane where that is right`;
    throw new ApiError(403, 'address-not-allowed', message);
  }
  return { workload: { ...workload, addresses }, identity: identity.uri };
}
