import { isLoopback } from '../addresses.ts';
import type { KnownWorkload } from './workloads.ts';

/** Whose addresses are. Those of nodes and of loopback belong to nobody: several workloads share them. */
export class AddressBook {
  readonly #nodes: ReadonlySet<string>;
  readonly #owners = new Map<string, KnownWorkload>();
  /** Addresses without an owner, and who of those that only services know of is found there. */
  readonly #lent = new Map<string, KnownWorkload>();

  /** @param nodes canonical addresses of the cluster's nodes, as far as pods on their network tell */
  constructor(nodes: Iterable<string>) {
    this.#nodes = new Set(nodes);
  }

  isNode(address: string): boolean {
    return this.#nodes.has(address);
  }

  /** Null: nobody's, or several workloads'. */
  ownerOf(address: string): KnownWorkload | null {
    return this.#owners.get(address) ?? null;
  }

  /** The address is the workload's from now on, whoever's it was. */
  give(address: string, workload: KnownWorkload): void {
    if (!isLoopback(address) && !this.isNode(address)) this.#owners.set(address, workload);
  }

  /** For a workload that only a service knows of: whoever comes first is found there; one of which something is known before one of which nothing is. */
  lend(address: string, workload: KnownWorkload): void {
    if (isLoopback(address)) return;
    const before = this.#lent.get(address);
    if (before === undefined || isBetterKnown(workload, before)) this.#lent.set(address, workload);
  }

  /** Whether somebody else may be at one of the workload's addresses: NEVER is anybody taken for it because of its address then. */
  isShared(workload: KnownWorkload): boolean {
    return (
      workload.hostNetwork ||
      workload.addresses.some((address) => this.isNode(address) || this.#holderOf(address, workload) !== workload)
    );
  }

  #holderOf(address: string, otherwise: KnownWorkload): KnownWorkload {
    return this.#owners.get(address) ?? this.#lent.get(address) ?? otherwise;
  }
}

function isBetterKnown(a: KnownWorkload, b: KnownWorkload): boolean {
  if (a.origin !== 'address') return b.origin === 'address';
  // The same at every replica, whatever order services are heard of in.
  return b.origin === 'address' && a.name < b.name;
}
