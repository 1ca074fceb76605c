import {
  type JwksResource,
  keyOf,
  type MeshConfigResource,
  type PolicyResource,
  type RejectedResource,
  type Resource,
  type ResourceKey,
  type SelfResource,
  type ServiceResource,
  type TrustBundleResource,
  type WorkloadResource,
} from '../../mesh/resources.ts';
import { AddressClaims } from './address-claims.ts';
import {
  type Destination,
  endpointAt,
  type ServiceDestination,
  UNKNOWN_DESTINATION,
  type WorkloadDestination,
} from './destinations.ts';
import { unmapped } from './ip-address.ts';
import { readResource } from './mesh-resource.ts';
import { Passages } from './passthrough.ts';

export interface Delta {
  /** True: whatever is not among `upserts` is dropped. */
  readonly full: boolean;
  readonly upserts: readonly Resource[];
  readonly removes: readonly ResourceKey[];
}

/** How often each part of the view has changed; whoever caches something derived from a part compares. */
export interface ViewVersions {
  readonly meshConfig: number;
  readonly trustBundle: number;
  readonly revocations: number;
  /** AuthorizationPolicy, PeerAuthentication and RequestAuthentication together, and the labels by which they select. */
  readonly policies: number;
  /** RequestAuthentication and Jwks together, and the labels. */
  readonly tokens: number;
  /** Workloads and services together. */
  readonly registry: number;
}

/** A workload called by its address keeps at most this many ports' destinations made: a port scan shall not fill memory. */
const MAX_CACHED_PORTS = 64;

const POLICY_KINDS: readonly PolicyResource['kind'][] = [
  'AuthorizationPolicy',
  'PeerAuthentication',
  'RequestAuthentication',
];

class WorkloadEntry {
  readonly resource: WorkloadResource;
  readonly version: number;
  readonly destinations = new Map<number, WorkloadDestination>();

  constructor(resource: WorkloadResource, version: number) {
    this.resource = resource;
    this.version = version;
  }
}

class ServiceEntry {
  readonly resource: ServiceResource;
  /** Rises when the service, or a workload behind it, changes; `destinations` are of this version. */
  version: number;
  readonly destinations = new Map<number, ServiceDestination>();

  constructor(resource: ServiceResource, version: number) {
    this.resource = resource;
    this.version = version;
  }
}

/**
 * A worker's picture of the mesh, from the deltas of the control plane. Resources are read strictly; a bad one is rejected and the last good one
 * of its key stays. Lookups of what was looked up before allocate nothing. No I/O; one owner, one thread.
 */
export class MeshView {
  readonly #resources = new Map<ResourceKey, Resource>();
  /** Policies that were sent and refused, of which no earlier one is in force. */
  readonly #missing = new Set<ResourceKey>();
  readonly #workloads = new Map<string, WorkloadEntry>();
  readonly #services = new Map<string, ServiceEntry>();
  /** Workload name → names of the services that have it as an endpoint, whether the workload is known or not. */
  readonly #servedBy = new Map<string, Set<string>>();
  readonly #workloadByAddress = new AddressClaims<WorkloadEntry>();
  readonly #serviceByAddress = new AddressClaims<ServiceEntry>();
  readonly #passages = new Passages();
  readonly #versions = { meshConfig: 0, trustBundle: 0, revocations: 0, policies: 0, tokens: 0, registry: 0 };
  readonly #checkPolicy: (policy: PolicyResource) => string | null;
  readonly #checkRoot: (pem: string) => string | null;
  #revokedIds: ReadonlySet<string> = new Set();
  #revokedSerials: ReadonlySet<string> = new Set();
  #lastVersion = 0;

  /**
   * @param checkPolicy why a policy cannot be enforced, null where it can: the policy library's judgement
   * @param checkRoot why a PEM block cannot be a root of trust, null where it can
   */
  constructor(checkPolicy: (policy: PolicyResource) => string | null, checkRoot: (pem: string) => string | null) {
    this.#checkPolicy = checkPolicy;
    this.#checkRoot = checkRoot;
  }

  /** Null before the first push. */
  get meshConfig(): MeshConfigResource | null {
    const resource = this.#resources.get('MeshConfig/mesh');
    return resource?.kind === 'MeshConfig' ? resource : null;
  }

  /** Null where the control plane has not told of it: an older one never does. */
  get self(): SelfResource | null {
    const resource = this.#resources.get('Self/self');
    return resource?.kind === 'Self' ? resource : null;
  }

  get trustBundle(): TrustBundleResource | null {
    const resource = this.#resources.get('TrustBundle/roots');
    return resource?.kind === 'TrustBundle' ? resource : null;
  }

  get versions(): ViewVersions {
    return this.#versions;
  }

  resources(): IterableIterator<Resource> {
    return this.#resources.values();
  }

  policies(): PolicyResource[] {
    const policies: PolicyResource[] = [];
    for (const resource of this.#resources.values()) {
      if (isPolicy(resource)) policies.push(resource);
    }
    return policies;
  }

  /** The keys at that URI; null where the control plane has not told of it. */
  jwks(uri: string): JwksResource | null {
    const resource = this.#resources.get(`Jwks/${uri}`);
    return resource?.kind === 'Jwks' ? resource : null;
  }

  /** @param serial upper-case hexadecimal without leading zeros. */
  isRevoked(spiffeId: string, serial: string): boolean {
    return this.#revokedIds.has(spiffeId) || this.#revokedSerials.has(serial);
  }

  workload(name: string): WorkloadResource | null {
    return this.#workloads.get(name)?.resource ?? null;
  }

  workloadAt(ip: string): WorkloadResource | null {
    return this.#workloadByAddress.at(unmapped(ip))?.resource ?? null;
  }

  /** A port of the service `<namespace>/<name>`; null where there is no such service or port. */
  service(name: string, port: number): ServiceDestination | null {
    const entry = this.#services.get(name);
    return entry === undefined ? null : this.#serviceDestination(entry, port);
  }

  /** A service of the workload's own namespace that sends its callers to this port of it; null where there is none. Of several the first by name. */
  serviceServing(workload: string, port: number): ServiceResource | null {
    let found: ServiceResource | null = null;
    for (const resource of this.#ownServices(workload)) {
      const endpoint = resource.endpoints.find((one) => one.workload === workload);
      if (endpoint === undefined || !Object.values(endpoint.ports).includes(port)) continue;
      if (found === null || resource.name < found.name) found = resource;
    }
    return found;
  }

  /** What the services of its own namespace that send callers to this port of the workload declare of it; of several that do the first by name. Null: none does. */
  protocolServed(workload: string, port: number): string | null {
    let found: { readonly service: string; readonly protocol: string } | null = null;
    for (const { name, endpoints, ports } of this.#ownServices(workload)) {
      const endpoint = endpoints.find((one) => one.workload === workload);
      const declared = ports.find((one) => one.protocol !== null && endpoint?.ports[one.port] === port);
      if (declared?.protocol == null || (found !== null && found.service < name)) continue;
      found = { service: name, protocol: declared.protocol };
    }
    return found?.protocol ?? null;
  }

  /**
   * Those of the workload's own namespace. Others may lead to it as well (a ServiceEntry or an EndpointSlice names any address), but NEVER say what it
   * speaks: a port that is taken for TCP is not looked into, so that tokens are not verified and forged headers are not taken out.
   */
  *#ownServices(workload: string): IterableIterator<ServiceResource> {
    const namespace = workload.slice(0, workload.indexOf('/'));
    for (const name of this.#servedBy.get(workload) ?? []) {
      const resource = this.#services.get(name)?.resource;
      if (resource?.namespace === namespace) yield resource;
    }
  }

  /** What stands behind an original destination. `ip` as inet_ntop(3) prints it. A port that a virtual IP does not have is unknown. */
  lookupOutbound(ip: string, port: number): Destination {
    const address = unmapped(ip);
    const service = this.#serviceByAddress.at(address);
    if (service !== null) return this.#serviceDestination(service, port) ?? UNKNOWN_DESTINATION;
    const workload = this.#workloadByAddress.at(address);
    return workload === null ? UNKNOWN_DESTINATION : this.#workloadDestination(workload, port);
  }

  /** Whether connections to where nobody known is may pass in a REGISTRY_ONLY mesh. */
  mayPass(ip: string, port: number): boolean {
    return this.#passages.lead(ip, port);
  }

  /**
   * Takes a delta; what it could not take, with the reason, is returned and leaves the last good one in force. A policy of which there is none is
   * missing from then on: see `lacksPolicy`.
   */
  applyDelta(delta: Delta): RejectedResource[] {
    const rejected: RejectedResource[] = [];
    const mentioned = new Set<ResourceKey>();
    for (const sent of delta.upserts) {
      const read = readResource(sent);
      const key = read.ok ? keyOf(read.resource) : read.key;
      mentioned.add(key);
      const reason = read.ok ? this.#whyNot(read.resource) : read.reason;
      if (read.ok && reason === null) this.#put(key, read.resource);
      else if (reason !== null) {
        rejected.push({ key, reason });
        this.#noteMissing(key);
      }
    }
    const known = [...this.#resources.keys(), ...this.#missing];
    for (const key of delta.full ? known.filter((one) => !mentioned.has(one)) : delta.removes) this.#remove(key);
    return rejected;
  }

  /** Whether a policy, or what it selects by, was sent that could not be read, and none of its name is in force: nobody knows what it would forbid. */
  get lacksPolicy(): boolean {
    return this.#missing.size > 0;
  }

  #noteMissing(key: ResourceKey): void {
    const decides = key === 'Self/self' || POLICY_KINDS.some((kind) => key.startsWith(`${kind}/`));
    if (this.#resources.has(key) || !decides) return;
    this.#missing.add(key);
    this.#versions.policies++;
  }

  #whyNot(resource: Resource): string | null {
    if (resource.kind === 'TrustBundle') {
      for (const [index, pem] of resource.roots.entries()) {
        const reason = this.#checkRoot(pem);
        if (reason !== null) return `roots[${index}] ${reason}`;
      }
    }
    return isPolicy(resource) ? this.#checkPolicy(resource) : null;
  }

  #put(key: ResourceKey, resource: Resource): void {
    this.#unindex(key);
    this.#missing.delete(key);
    this.#resources.set(key, resource);
    if (resource.kind === 'Workload') this.#indexWorkload(resource);
    else if (resource.kind === 'Service') this.#indexService(resource);
    this.#changed(resource.kind);
  }

  #remove(key: ResourceKey): void {
    if (this.#missing.delete(key)) this.#versions.policies++;
    const resource = this.#resources.get(key);
    if (resource === undefined) return;
    this.#unindex(key);
    this.#resources.delete(key);
    this.#changed(resource.kind);
  }

  #changed(kind: Resource['kind']): void {
    switch (kind) {
      case 'MeshConfig':
        this.#versions.meshConfig++;
        break;
      case 'TrustBundle':
        this.#versions.trustBundle++;
        break;
      case 'Revocations': {
        const revoked = this.#resources.get('Revocations/revoked');
        this.#revokedIds = new Set(revoked?.kind === 'Revocations' ? revoked.spiffeIds : []);
        this.#revokedSerials = new Set(revoked?.kind === 'Revocations' ? revoked.serials : []);
        this.#versions.revocations++;
        break;
      }
      case 'AuthorizationPolicy':
      case 'PeerAuthentication':
        this.#versions.policies++;
        break;
      case 'Self':
      case 'RequestAuthentication':
        // They say how tokens are verified, and how policies read their claims; which ones, the labels.
        this.#versions.policies++;
        this.#versions.tokens++;
        break;
      case 'Jwks':
        this.#versions.tokens++;
        break;
      case 'Workload':
      case 'Service':
        this.#versions.registry++;
        break;
    }
  }

  #indexWorkload(resource: WorkloadResource): void {
    const entry = new WorkloadEntry(resource, ++this.#lastVersion);
    this.#workloads.set(resource.name, entry);
    if (resource.hostNetwork !== true) {
      for (const address of resource.addresses) this.#workloadByAddress.claim(address, entry);
    }
    this.#touchServices(resource.name);
  }

  #indexService(resource: ServiceResource): void {
    const entry = new ServiceEntry(resource, ++this.#lastVersion);
    this.#services.set(resource.name, entry);
    for (const address of resource.addresses) this.#serviceByAddress.claim(address, entry);
    this.#passages.put(resource);
    for (const { workload } of resource.endpoints) {
      const services = this.#servedBy.get(workload);
      if (services === undefined) this.#servedBy.set(workload, new Set([resource.name]));
      else services.add(resource.name);
    }
  }

  #unindex(key: ResourceKey): void {
    const resource = this.#resources.get(key);
    if (resource?.kind === 'Workload') {
      const entry = this.#workloads.get(resource.name);
      if (entry === undefined) return;
      this.#workloads.delete(resource.name);
      for (const address of resource.addresses) this.#workloadByAddress.give(address, entry);
      this.#touchServices(resource.name);
    } else if (resource?.kind === 'Service') {
      const entry = this.#services.get(resource.name);
      if (entry === undefined) return;
      this.#services.delete(resource.name);
      for (const address of resource.addresses) this.#serviceByAddress.give(address, entry);
      this.#passages.remove(resource.name);
      for (const { workload } of resource.endpoints) {
        const services = this.#servedBy.get(workload);
        services?.delete(resource.name);
        if (services?.size === 0) this.#servedBy.delete(workload);
      }
    }
  }

  /** A workload has come, changed or gone: what was made of it is out of date. */
  #touchServices(workload: string): void {
    for (const name of this.#servedBy.get(workload) ?? []) {
      const entry = this.#services.get(name);
      if (entry === undefined) continue;
      entry.version = ++this.#lastVersion;
      entry.destinations.clear();
    }
  }

  #serviceDestination(entry: ServiceEntry, port: number): ServiceDestination | null {
    const made = entry.destinations.get(port);
    if (made !== undefined) return made;
    const servicePort = entry.resource.ports.find((one) => one.port === port);
    if (servicePort === undefined) return null;
    const endpoints = [];
    const key = String(port);
    for (const { workload: name, ports } of entry.resource.endpoints) {
      const workload = this.#workloads.get(name)?.resource;
      const workloadPort = ports[key];
      // A workload that has not been pushed yet is no endpoint yet; its coming touches this entry.
      if (workload !== undefined && workloadPort !== undefined) endpoints.push(endpointAt(workload, workloadPort));
    }
    const { version, resource: service } = entry;
    const destination: ServiceDestination = { kind: 'service', service, port: servicePort, endpoints, version };
    entry.destinations.set(port, destination);
    return destination;
  }

  #workloadDestination(entry: WorkloadEntry, port: number): WorkloadDestination {
    const made = entry.destinations.get(port);
    if (made !== undefined) return made;
    const { version, resource: workload } = entry;
    const endpoint = endpointAt(workload, port);
    const destination: WorkloadDestination = { kind: 'workload', workload, port, endpoint, version };
    if (entry.destinations.size < MAX_CACHED_PORTS) entry.destinations.set(port, destination);
    return destination;
  }
}

function isPolicy(resource: Resource): resource is PolicyResource {
  return (POLICY_KINDS as readonly string[]).includes(resource.kind);
}
