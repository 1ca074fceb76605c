import type { BlockList } from 'node:net';
import type { Manifest } from '../../../policy/types.ts';
import { isLoopback, setContains } from '../../addresses.ts';
import { ApiError } from '../../api-error.ts';
import { isControlPlane } from '../../ca/control-plane-identity.ts';
import { readWorkloadEntry, type WorkloadEntryObject } from '../../registry/objects.ts';
import { readPod } from '../../registry/pods.ts';

export interface MachinesOptions {
  /** Pods and WorkloadEntries of the cluster, and whatever else there is. A new list after each change. */
  readonly manifests: () => readonly Manifest[];
  /** Blocks of machines whose connections come from other addresses than their own, since something translates these on the way. */
  readonly trustedAddresses: BlockList;
  /** Where the control plane runs. */
  readonly namespace: string;
}

interface Account {
  readonly namespace: string;
  readonly serviceAccount: string;
}

interface Index {
  readonly manifests: readonly Manifest[];
  /** By namespace. */
  readonly entries: ReadonlyMap<string, readonly WorkloadEntryObject[]>;
  /** `<namespace>/<name>` */
  readonly podNames: ReadonlySet<string>;
  readonly podAddresses: ReadonlySet<string>;
  /** As far as pods on their network tell. */
  readonly nodeAddresses: ReadonlySet<string>;
}

/**
 * Machines outside of the cluster, as WorkloadEntries declare them: who may be which.
 *
 * NEVER is a pod taken for a machine, nor somebody at a node's address, which many share: what a pod may be its service account token says.
 */
export class Machines {
  readonly #options: MachinesOptions;
  #index: Index | null = null;

  constructor(options: MachinesOptions) {
    this.#options = options;
  }

  /** Whether this identity is only ever given to pods: the control plane's own, and those of its namespace and of Kubernetes' own (`kube-…`). */
  isReserved(account: Account): boolean {
    const { namespace } = account;
    return isControlPlane(account) || namespace === this.#options.namespace || namespace.startsWith('kube-');
  }

  /**
   * Checks that the account has a machine at the caller's address that has these labels.
   *
   * @param peerAddress canonical
   * @throws ApiError 403 `identity-reserved`, `address-not-allowed`; 503 `entry-unknown`, since the entry may be heard of soon
   */
  requireOne(account: Account, labels: { readonly [key: string]: string }, peerAddress: string): void {
    const { namespace, serviceAccount } = account;
    if (this.isReserved(account)) {
      throw new ApiError(403, 'identity-reserved', `${namespace}/${serviceAccount} is not for machines`);
    }
    this.#refusePod(peerAddress);
    const wanted = Object.entries(labels);
    const faults = this.#of(account)
      .filter((entry) => wanted.every(([key, value]) => entry.labels[key] === value))
      .map((entry) => this.#faultOf(entry, peerAddress));
    if (faults.includes(null)) return;
    const which = `a WorkloadEntry of ${namespace}/${serviceAccount}${wanted.length > 0 ? ' with the labels of the join token' : ''}`;
    const fault = faults[0] ?? `there is none in the namespace ${namespace}`;
    throw new ApiError(503, 'entry-unknown', `${which} must name the address ${peerAddress}: ${fault}`);
  }

  /** Whether the account has a machine at the caller's address. */
  hasOne(account: Account, peerAddress: string): boolean {
    if (this.isReserved(account) || this.#read().podAddresses.has(peerAddress)) return false;
    return this.#of(account).some((entry) => this.#faultOf(entry, peerAddress) === null);
  }

  /**
   * The entry of that name, which must be of the account and at the caller's address.
   *
   * @throws ApiError 403 `entry-mismatch`, `address-not-allowed`
   */
  named(name: string, account: Account, peerAddress: string): WorkloadEntryObject {
    const { namespace, serviceAccount } = account;
    const title = `${namespace}/${name}`;
    const { podNames } = this.#read();
    const entry = podNames.has(title) ? undefined : this.#of(account).find((one) => one.name === name);
    if (entry === undefined) {
      const message = `there is neither a pod ${title} nor a WorkloadEntry of that name with the service account ${serviceAccount}`;
      throw new ApiError(403, 'entry-mismatch', message);
    }
    this.#refusePod(peerAddress);
    const fault = this.#faultOf(entry, peerAddress);
    if (fault !== null) throw new ApiError(403, 'address-not-allowed', fault);
    return entry;
  }

  #refusePod(peerAddress: string): void {
    if (!this.#read().podAddresses.has(peerAddress)) return;
    const message = `the address ${peerAddress} is that of a pod, which is no machine outside of the cluster: it has a service account token`;
    throw new ApiError(403, 'address-not-allowed', message);
  }

  #of({ namespace, serviceAccount }: Account): readonly WorkloadEntryObject[] {
    const entries = this.#read().entries.get(namespace) ?? [];
    return entries.filter((entry) => (entry.serviceAccount ?? 'default') === serviceAccount);
  }

  /** Why the caller is not the machine of this entry; null: it may be. */
  #faultOf({ namespace, name, address, hasTunnel }: WorkloadEntryObject, peerAddress: string): string | null {
    const { podAddresses, nodeAddresses } = this.#read();
    const which = `WorkloadEntry ${namespace}/${name}`;
    if (!hasTunnel) {
      return `${which} does not say that a sidecar stands there: give it the label networking.istio.io/tunnel: http`;
    }
    if (address === '' || isLoopback(address)) return `${which} has no address at which others find it`;
    if (podAddresses.has(address) || nodeAddresses.has(address)) {
      return `${which} has the address ${address} of a pod or node of the cluster`;
    }
    if (address === peerAddress || setContains(this.#options.trustedAddresses, address)) return null;
    return (
      `${which} has the address ${address}, and this connection comes from ${peerAddress}: nothing may translate addresses between the machine and ` +
      "the control plane, unless trustedAddresses of the control plane have the machine's"
    );
  }

  #read(): Index {
    const manifests = this.#options.manifests();
    if (this.#index?.manifests !== manifests) this.#index = indexOf(manifests);
    return this.#index;
  }
}

function indexOf(manifests: readonly Manifest[]): Index {
  const pods = manifests.filter(({ kind }) => kind === 'Pod').map(readPod);
  const addressesOf = (hostNetwork: boolean) =>
    new Set(pods.filter((pod) => pod.running && pod.hostNetwork === hostNetwork).flatMap(({ addresses }) => addresses));
  const entries = manifests.filter(({ kind }) => kind === 'WorkloadEntry').map(readWorkloadEntry);
  return {
    manifests,
    entries: Map.groupBy(entries, ({ namespace }) => namespace),
    podNames: new Set(pods.map(({ workload }) => workload)),
    podAddresses: addressesOf(false),
    nodeAddresses: addressesOf(true),
  };
}
