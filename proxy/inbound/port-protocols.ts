import type { DataPlane } from '../connection/data-plane.ts';
import type { Address } from '../native/socket.ts';
import { type ApplicationProtocol, applicationProtocol } from '../protocol/application-protocol.ts';

/** What is known of a port of this workload before any byte comes. */
export interface PortProtocol {
  readonly protocol: ApplicationProtocol;
  /** The version to expect of an HTTP port whose peer says nothing. */
  readonly version: 'http/1' | 'h2';
}

/** Declared so (Istio's conventions), HTTP/2 is spoken from the first byte. */
const HTTP2: readonly string[] = ['http2', 'grpc'];
/** Ports remembered at most: a scan of all ports shall not fill memory. */
const MAX_PORTS = 1_024;

/** The protocols of this workload's ports: declared by the services that send callers there, else to be sniffed. Found once for each registry. */
export class PortProtocols {
  readonly #plane: DataPlane;
  readonly #opaque: ReadonlySet<number>;
  readonly #known = new Map<string, Map<number, PortProtocol>>();
  #count = 0;
  #version = -1;

  constructor(plane: DataPlane) {
    this.#plane = plane;
    this.#opaque = new Set(plane.config.opaquePorts);
  }

  at(target: Address): PortProtocol {
    const { registry } = this.#plane.view.versions;
    if (registry !== this.#version || this.#count >= MAX_PORTS) {
      this.#version = registry;
      this.#known.clear();
      this.#count = 0;
    }
    const known = this.#known.get(target.address)?.get(target.port);
    return known ?? this.#find(target);
  }

  #find(target: Address): PortProtocol {
    const { view } = this.#plane;
    const own = view.registry.workloadAt(target.address);
    const declared = own === null ? null : view.registry.protocolServed(own.name, target.port);
    const protocol = applicationProtocol(declared, target.port, this.#opaque);
    const version = declared !== null && HTTP2.includes(declared) ? 'h2' : 'http/1';
    const found: PortProtocol = { protocol, version };
    let ports = this.#known.get(target.address);
    if (ports === undefined) {
      ports = new Map();
      this.#known.set(target.address, ports);
    }
    ports.set(target.port, found);
    this.#count++;
    return found;
  }
}
