import type { WorkloadRegistration } from '../../../mesh/push.ts';
import { TUNNEL_PORT } from '../../../mesh/resources.ts';
import type { SpiffeId } from '../../../mesh/spiffe-id.ts';
import { ApiError } from '../../api-error.ts';
import type { RegisteredWorkload } from '../../registry/registrations.ts';

/** What the cluster says of a workload. */
export interface Declaration {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: { readonly [key: string]: string };
  readonly addresses: readonly string[];
  readonly ports: RegisteredWorkload['workload']['ports'];
  /** What it is, for messages: `a pod`. */
  readonly kind: string;
  /** Whose addresses these are, for messages, after "is not". */
  readonly owner: string;
}

/**
 * The workload as the cluster declares it; what its sidecar says of itself must not be otherwise. The tunnel is where others look for it, since no
 * declaration says.
 *
 * @throws ApiError 403 `address-not-allowed`
 */
export function registeredAs(
  { name, namespace, serviceAccount, labels, addresses, ports, kind, owner }: Declaration,
  { addresses: told, tunnel }: WorkloadRegistration,
  { uri: identity }: SpiffeId,
): RegisteredWorkload {
  const refuse = (message: string): never => {
    throw new ApiError(403, 'address-not-allowed', message);
  };
  const foreign = [...told, ...(tunnel === null ? [] : [tunnel.address])].find((one) => !addresses.includes(one));
  if (foreign !== undefined) refuse(`the address ${foreign} is not ${owner}`);
  if (tunnel !== null && tunnel.port !== TUNNEL_PORT) {
    refuse(`the tunnel of ${kind} is on port ${TUNNEL_PORT}, not ${tunnel.port}`);
  }
  const workload = { name, namespace, serviceAccount, labels, addresses, tunnel: null, ports };
  return { workload, identity, isDeclared: true };
}
