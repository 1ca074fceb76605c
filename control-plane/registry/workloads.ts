import type { WorkloadProtocol } from '../../mesh/resources.ts';
import { spiffeId } from '../../mesh/spiffe-id.ts';
import type { Manifest, Problem } from '../../policy/types.ts';
import { isLoopback } from '../addresses.ts';
import { AddressBook } from './address-book.ts';
import { tunnels, type WorkloadEntryObject } from './objects.ts';
import type { PodObject } from './pods.ts';
import type { RegisteredWorkload } from './registrations.ts';
import type { InlineEndpoint } from './service-entries.ts';

/** A workload from any source, before it becomes a resource. Immutable; the same object in every snapshot while what it was made of is the same. */
export interface KnownWorkload {
  /** `<namespace>/<instance>`. */
  readonly name: string;
  readonly namespace: string;
  /** What telemetry calls it where its labels say nothing. */
  readonly instance: string;
  readonly serviceAccount: string;
  readonly identity: string | null;
  readonly labels: { readonly [key: string]: string };
  readonly addresses: readonly string[];
  readonly protocol: WorkloadProtocol;
  readonly tunnel: { readonly address: string; readonly port: number } | null;
  readonly ports: { readonly [name: string]: number };
  /** `address`: nothing but an address is known of it. How a service's named target is looked up: an entry names its ports after the service's. */
  readonly origin: 'pod' | 'sidecar' | 'entry' | 'address';
  readonly hostNetwork: boolean;
}

const fromPod = made((pod: PodObject, trustDomain: string): KnownWorkload => {
  const { workload, namespace, name, labels, serviceAccount, protocol, hostNetwork, addresses, ports } = pod;
  return {
    name: workload,
    namespace,
    instance: name,
    serviceAccount,
    identity: protocol === 'NONE' ? null : spiffeId(trustDomain, namespace, serviceAccount).uri,
    labels,
    addresses,
    protocol,
    tunnel: null,
    ports,
    origin: 'pod',
    hostNetwork,
  };
});

const fromRegistration = made(
  ({ workload, identity }: RegisteredWorkload): KnownWorkload => ({
    name: `${workload.namespace}/${workload.name}`,
    namespace: workload.namespace,
    instance: workload.name,
    serviceAccount: workload.serviceAccount,
    identity,
    labels: workload.labels,
    addresses: workload.addresses,
    protocol: 'HBONE',
    tunnel: workload.tunnel,
    ports: workload.ports,
    origin: 'sidecar',
    hostNetwork: false,
  }),
);

/** A WorkloadEntry, or an endpoint within a ServiceEntry. Without a connected sidecar it is plaintext, unless its labels say that there is one: ours or Istio's. */
export const fromEntry = made((entry: WorkloadEntryObject | InlineEndpoint, trustDomain: string): KnownWorkload => {
  const protocol = tunnels(entry.labels)
    ? 'HBONE'
    : entry.labels['security.istio.io/tlsMode'] === 'istio'
      ? 'ISTIO'
      : 'NONE';
  const serviceAccount = entry.serviceAccount ?? 'default';
  return {
    name: `${entry.namespace}/${entry.name}`,
    namespace: entry.namespace,
    // Nobody gave an endpoint within an entry a name: telemetry must not make one of its address.
    instance: 'manifest' in entry ? entry.name : 'unknown',
    serviceAccount,
    identity:
      protocol !== 'NONE' || entry.serviceAccount !== null
        ? spiffeId(trustDomain, entry.namespace, serviceAccount).uri
        : null,
    labels: entry.labels,
    addresses: [entry.address],
    protocol,
    tunnel: null,
    ports: entry.ports,
    origin: 'entry',
    hostNetwork: false,
  };
});

/** Where a service of `namespace` leads to an address that is nobody's. */
export const fromAddress = made(
  ({ namespace, address }: { readonly namespace: string; readonly address: string }): KnownWorkload => ({
    // No object of Kubernetes has a colon in its name.
    name: `${namespace}/address:${address}`,
    namespace,
    instance: 'unknown',
    serviceAccount: '',
    identity: null,
    labels: {},
    addresses: [address],
    protocol: 'NONE',
    tunnel: null,
    ports: {},
    origin: 'address',
    hostNetwork: false,
  }),
);

/** What is made of an object is made once, as long as the trust domain is the same. */
function made<T extends object>(make: (from: T, trustDomain: string) => KnownWorkload) {
  const known = new WeakMap<T, { readonly trustDomain: string; readonly workload: KnownWorkload }>();
  return (from: T, trustDomain: string): KnownWorkload => {
    const before = known.get(from);
    if (before?.trustDomain === trustDomain) return before.workload;
    const workload = make(from, trustDomain);
    known.set(from, { trustDomain, workload });
    return workload;
  };
}

/**
 * Workloads of one namespace that only its services know of: as many as Istio lets one ServiceEntry name. Objects of a few bytes an address become
 * resources of hundreds at every sidecar of the mesh, so that one namespace could fill them all.
 */
const MAX_ADDED = 4_096;

export interface WorkloadSources {
  readonly pods: readonly PodObject[];
  readonly registered: readonly RegisteredWorkload[];
  readonly entries: readonly WorkloadEntryObject[];
  readonly trustDomain: string;
}

/**
 * All workloads, from pods, then connected sidecars, then WorkloadEntries. Where several describe one workload (same address or name, same identity)
 * the first is believed; one that claims what belongs to somebody else is left out and reported. Of entries the oldest comes first: nobody takes from
 * another namespace by a name that sorts before.
 */
export class WorkloadDirectory {
  readonly workloads = new Map<string, KnownWorkload>();
  /** Those that a selector finds by itself; who serves a service among pods, their cluster tells. */
  readonly selectable: readonly KnownWorkload[];
  readonly problems: Problem[] = [];
  readonly #addresses: AddressBook;
  /** Workloads that only services know of, counted by namespace. */
  readonly #added = new Map<string, number>();
  /** Entries that are workloads, by name. */
  readonly #entries = new Map<string, WorkloadEntryObject>();

  constructor({ pods, registered, entries, trustDomain }: WorkloadSources) {
    this.#addresses = new AddressBook(pods.flatMap(({ hostNetwork, addresses }) => (hostNetwork ? addresses : [])));
    this.#addPods(pods, trustDomain);
    const ofPods = new Map(pods.map((pod) => [pod.workload, pod]));
    const sidecars = registered.flatMap((one) => this.#addRegistration(one, ofPods, trustDomain));
    this.selectable = [...sidecars, ...entries.toSorted(byAge).flatMap((entry) => this.#addEntry(entry, trustDomain))];
  }

  /** Whom an address belongs to; null: nobody, or several. */
  at(address: string): KnownWorkload | null {
    return this.#addresses.ownerOf(address);
  }

  isNode(address: string): boolean {
    return this.#addresses.isNode(address);
  }

  /** The WorkloadEntry that the workload is; null: it is none. */
  entryOf({ name }: KnownWorkload): WorkloadEntryObject | null {
    return this.#entries.get(name) ?? null;
  }

  /** See `AddressBook`; known once all services have been read. */
  isShared(workload: KnownWorkload): boolean {
    return this.#addresses.isShared(workload);
  }

  /** Takes a workload in that only a service knows of. Of one name the first stays. Null: its namespace has too many of them. */
  add(workload: KnownWorkload): KnownWorkload | null {
    const known = this.workloads.get(workload.name);
    if (known !== undefined) return known;
    const count = (this.#added.get(workload.namespace) ?? 0) + 1;
    this.#added.set(workload.namespace, count);
    if (count > MAX_ADDED) {
      if (count === MAX_ADDED + 1) this.problems.push(tooManyAdded(workload));
      return null;
    }
    this.workloads.set(workload.name, workload);
    for (const address of workload.addresses) this.#addresses.lend(address, workload);
    return workload;
  }

  #addPods(pods: readonly PodObject[], trustDomain: string): void {
    const holders = new Map<string, PodObject>();
    for (const pod of pods) {
      if (!pod.running) continue;
      const workload = fromPod(pod, trustDomain);
      this.workloads.set(workload.name, workload);
      if (pod.hostNetwork) continue;
      for (const address of pod.addresses) {
        const holder = holders.get(address);
        if (holder === undefined || holder.terminating) {
          holders.set(address, pod);
          this.#addresses.give(address, workload);
        } else if (!pod.terminating && !isLoopback(address)) this.problems.push(sharedAddress(pod, address, holder));
      }
    }
  }

  #addRegistration(
    registered: RegisteredWorkload,
    pods: ReadonlyMap<string, PodObject>,
    trustDomain: string,
  ): KnownWorkload[] {
    const workload = fromRegistration(registered, trustDomain);
    if (registered.isDeclared === true || pods.has(workload.name)) return [];
    for (const address of workload.addresses) {
      const holder = this.at(address);
      const pod = holder?.origin === 'pod' ? pods.get(holder.name) : undefined;
      if (pod === undefined) continue;
      this.problems.push(takenAddress(workload, address, pod));
      return [];
    }
    this.#take(workload);
    return [workload];
  }

  #addEntry(entry: WorkloadEntryObject, trustDomain: string): KnownWorkload[] {
    const workload = fromEntry(entry, trustDomain);
    const holder = this.at(entry.address) ?? this.workloads.get(workload.name);
    if (holder === undefined) {
      this.#take(workload);
      this.#entries.set(workload.name, entry);
      return [workload];
    }
    if (holder.origin === 'entry' || !sameAccount(holder, workload)) this.problems.push(conflict(entry, holder));
    return [];
  }

  #take(workload: KnownWorkload): void {
    this.workloads.set(workload.name, workload);
    for (const address of workload.addresses) this.#addresses.give(address, workload);
  }
}

/** Those of a folder have no age, and stay in their order. */
function byAge(a: WorkloadEntryObject, b: WorkloadEntryObject): number {
  if (a.createdAt !== b.createdAt || a.createdAt === 0) return a.createdAt - b.createdAt;
  return `${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1;
}

function sameAccount(a: KnownWorkload, b: KnownWorkload): boolean {
  return a.namespace === b.namespace && a.serviceAccount === b.serviceAccount;
}

const HOLDERS: { readonly [O in KnownWorkload['origin']]: string } = {
  pod: 'Pod',
  sidecar: 'the connected sidecar of',
  entry: 'WorkloadEntry',
  address: 'a service of',
};

function conflict(entry: WorkloadEntryObject, holder: KnownWorkload): Problem {
  const who = `${HOLDERS[holder.origin]} ${holder.name}`;
  return {
    severity: 'error',
    message: `spec.address ${entry.address} already belongs to ${who}: this entry is left out; remove one of the two`,
    location: entry.manifest.locate(['spec', 'address']),
    resource: `WorkloadEntry ${entry.namespace}/${entry.name}`,
  };
}

function sharedAddress(pod: PodObject, address: string, holder: PodObject): Problem {
  return podProblem(
    pod.manifest,
    `its address ${address} is that of Pod ${holder.workload} too: what is sent there is expected to be the latter's`,
  );
}

function takenAddress(workload: KnownWorkload, address: string, pod: PodObject): Problem {
  return podProblem(
    pod.manifest,
    `its address ${address} is claimed by the connected sidecar of ${workload.name}, which is left out: give that workload an address of its own`,
  );
}

function tooManyAdded({ namespace }: KnownWorkload): Problem {
  return {
    severity: 'error',
    message: `its ServiceEntries and EndpointSlices name more than ${MAX_ADDED} addresses that are no workload's: the rest is left out; write WorkloadEntries for them`,
    location: { file: `Namespace ${namespace}`, line: 1, column: 1 },
    resource: `Namespace ${namespace}`,
  };
}

function podProblem(manifest: Manifest, message: string): Problem {
  return {
    severity: 'warning',
    message,
    location: manifest.locate(['status', 'podIPs']),
    resource: `Pod ${manifest.namespace}/${manifest.name}`,
  };
}
