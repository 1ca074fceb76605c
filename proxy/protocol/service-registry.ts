import type { ServiceResource, WorkloadResource } from '../../mesh/resources.ts';
import { AddressClaims } from './address-claims.ts';
import {
  type Destination,
  endpointAt,
  type ServiceDestination,
  UNKNOWN_DESTINATION,
  type WorkloadDestination,
} from './destinations.ts';
import { unmapped } from './ip-address.ts';
import { Passages } from './passthrough.ts';

/** A workload called by its address keeps at most this many ports' destinations made: a port scan shall not fill memory. */
const MAX_CACHED_PORTS = 64;

class KnownWorkload {
  readonly resource: WorkloadResource;
  readonly version: number;
  readonly destinations = new Map<number, WorkloadDestination>();

  constructor(resource: WorkloadResource, version: number) {
    this.resource = resource;
    this.version = version;
  }
}

class KnownService {
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
 * The mesh's workloads and services as a worker knows them, by name and by address, and the destinations made of them. Lookups of what was looked up
 * before allocate nothing.
 */
export class ServiceRegistry {
  readonly #workloads = new Map<string, KnownWorkload>();
  readonly #services = new Map<string, KnownService>();
  /** Workload name → names of the services that have it as an endpoint, whether the workload is known or not. */
  readonly #servedBy = new Map<string, Set<string>>();
  readonly #workloadByAddress = new AddressClaims<KnownWorkload>();
  readonly #serviceByAddress = new AddressClaims<KnownService>();
  readonly #passages = new Passages();
  #lastVersion = 0;

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

  /** Takes the place of the one of its name. */
  putWorkload(resource: WorkloadResource): void {
    this.removeWorkload(resource.name);
    const entry = new KnownWorkload(resource, ++this.#lastVersion);
    this.#workloads.set(resource.name, entry);
    if (resource.hostNetwork !== true) {
      for (const address of resource.addresses) this.#workloadByAddress.claim(address, entry);
    }
    this.#touchServices(resource.name);
  }

  /** Takes the place of the one of its name. */
  putService(resource: ServiceResource): void {
    this.removeService(resource.name);
    const entry = new KnownService(resource, ++this.#lastVersion);
    this.#services.set(resource.name, entry);
    for (const address of resource.addresses) this.#serviceByAddress.claim(address, entry);
    this.#passages.put(resource);
    for (const { workload } of resource.endpoints) {
      const services = this.#servedBy.get(workload);
      if (services === undefined) this.#servedBy.set(workload, new Set([resource.name]));
      else services.add(resource.name);
    }
  }

  removeWorkload(name: string): void {
    const known = this.#workloads.get(name);
    if (known === undefined) return;
    this.#workloads.delete(name);
    for (const address of known.resource.addresses) this.#workloadByAddress.give(address, known);
    this.#touchServices(name);
  }

  removeService(name: string): void {
    const known = this.#services.get(name);
    if (known === undefined) return;
    this.#services.delete(name);
    for (const address of known.resource.addresses) this.#serviceByAddress.give(address, known);
    this.#passages.remove(name);
    for (const { workload } of known.resource.endpoints) {
      const services = this.#servedBy.get(workload);
      services?.delete(name);
      if (services?.size === 0) this.#servedBy.delete(workload);
    }
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

  /** A workload has come, changed or gone: what was made of it is out of date. */
  #touchServices(workload: string): void {
    for (const name of this.#servedBy.get(workload) ?? []) {
      const entry = this.#services.get(name);
      if (entry === undefined) continue;
      entry.version = ++this.#lastVersion;
      entry.destinations.clear();
    }
  }

  #serviceDestination(entry: KnownService, port: number): ServiceDestination | null {
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

  #workloadDestination(entry: KnownWorkload, port: number): WorkloadDestination {
    const made = entry.destinations.get(port);
    if (made !== undefined) return made;
    const { version, resource: workload } = entry;
    const endpoint = endpointAt(workload, port);
    const destination: WorkloadDestination = { kind: 'workload', workload, port, endpoint, version };
    if (entry.destinations.size < MAX_CACHED_PORTS) entry.destinations.set(port, destination);
    return destination;
  }
}
