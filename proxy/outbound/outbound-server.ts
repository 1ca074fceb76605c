import { acceptPauses } from '../connection/accept-pauses.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import type { HttpProtocol } from '../connection/http-sessions.ts';
import { serviceFacts } from '../connection/party.ts';
import { type Flags, recordRefusal } from '../connection/record.ts';
import { SocketSniff } from '../connection/sniff.ts';
import { type Address, originalDestination, resetOnClose } from '../native/socket.ts';
import { type ApplicationProtocol, applicationProtocol } from '../protocol/application-protocol.ts';
import { type Destination, UNKNOWN_DESTINATION } from '../protocol/destinations.ts';
import { Listener } from '../reactor/listener.ts';
import { EndpointChoice } from './endpoint-choice.ts';
import { HttpOutboundConnection } from './http-connection.ts';
import { HttpDestination } from './http-destination.ts';
import { OutboundConnection, type Route } from './outbound-connection.ts';
import type { TunnelPool } from './tunnel-pool.ts';

/** Balancers that nobody has used for so long are forgotten, milliseconds. */
const CHOICE_RETAIN_MS = 60_000;

type KnownDestination = Exclude<Destination, { kind: 'unknown' }>;

function keyOf(destination: KnownDestination): string {
  return destination.kind === 'service'
    ? `s|${destination.service.name}|${destination.port.port}`
    : `w|${destination.workload.name}|${destination.port}`;
}

/** The application's own connections: redirected to port 15001, or made to an explicit upstream listener. */
export class OutboundServer {
  readonly #plane: DataPlane;
  readonly #pool: TunnelPool;
  readonly #mayAccept: () => boolean;
  readonly #listeners: Listener[] = [];
  readonly #choices = new Map<string, EndpointChoice>();
  readonly #http = new Map<string, HttpDestination>();
  readonly #opaquePorts: ReadonlySet<number>;
  /** Connections whose first bytes are awaited: not in the table yet. */
  readonly #sniffing = new Set<SocketSniff>();
  #stopped = false;
  #controlPlane: readonly Address[];
  readonly #isOwn: (address: string) => boolean;

  constructor(plane: DataPlane, pool: TunnelPool, mayAccept: () => boolean, isOwn: (address: string) => boolean) {
    this.#plane = plane;
    this.#pool = pool;
    this.#mayAccept = () => mayAccept() && plane.table.size + this.#sniffing.size < plane.config.limits.maxConnections;
    this.#isOwn = isOwn;
    this.#controlPlane = plane.config.controlPlane;
    this.#opaquePorts = new Set(plane.config.opaquePorts);
  }

  /** Takes redirected connections. @throws Error with `errno` where the address cannot be listened on. */
  listenRedirected(at: Address): void {
    this.#listen(at, (fd, from) => this.#onRedirected(fd, from, at));
  }

  /** Takes connections to one service. @throws as `listenRedirected`. */
  listenUpstream(at: Address, service: string, port: number): void {
    this.#listen(at, (fd, from) => {
      const destination = this.#plane.view.registry.service(service, port);
      if (destination === null) {
        this.#refuse(fd, from, at, 'NO_ROUTE', `the mesh has no service ${service} with port ${port}`);
        return;
      }
      this.#route(fd, from, at, destination);
    });
  }

  #listen(at: Address, onConnection: (fd: number, from: Address) => void): void {
    const { loop } = this.#plane;
    const listener = new Listener(loop, at, {
      mayAccept: this.#mayAccept,
      onConnection: (fd, from) => {
        // Not read before there is somewhere to go: what the application sends waits in its socket.
        if (loop.watch(fd, 0, { onEvents: () => {}, onFault: () => loop.close(fd) })) onConnection(fd, from);
      },
      onPause: acceptPauses(this.#plane, 'outbound connections'),
    });
    this.#listeners.push(listener);
  }

  #onRedirected(fd: number, from: Address, at: Address): void {
    const target = originalDestination(fd, from.address.includes(':'));
    if (
      target === null ||
      (target.port === at.port && (this.#isOwn(target.address) || target.address === at.address))
    ) {
      this.#refuse(
        fd,
        from,
        target ?? at,
        'PROTOCOL',
        'the connection was not redirected here: its destination is the sidecar itself',
      );
      return;
    }
    this.#route(fd, from, target, this.#plane.view.registry.lookupOutbound(target.address, target.port));
  }

  #route(fd: number, from: Address, target: Address, destination: Destination): void {
    if (destination.kind === 'unknown') {
      const whyNot = (): string | null => this.#whyNotPass(target);
      const reason = whyNot();
      if (reason === null) this.#carry(fd, from, target, { kind: 'passthrough', to: target, whyNot });
      else this.#refuse(fd, from, target, 'NO_ROUTE', reason);
      return;
    }
    const protocol = this.#protocolOf(destination);
    if (protocol === 'opaque') this.#carryTo(fd, from, target, destination);
    else if (protocol === 'http') this.#serveHttp(fd, from, target, destination, null);
    else this.#sniff(fd, from, target, destination);
  }

  /** Why a destination outside the registry must not be reached; null where it may. */
  #whyNotPass(target: Address): string | null {
    // Where redirection exempts the sidecar by mark alone, its control thread's own connection comes by here; it must not depend on what it fetches.
    if (this.#controlPlane.some((at) => at.address === target.address && at.port === target.port)) return null;
    const policy = this.#plane.view.meshConfig?.outboundTrafficPolicy ?? 'REGISTRY_ONLY';
    const { registry } = this.#plane.view;
    if (policy === 'ALLOW_ANY' || registry.mayPass(target.address, target.port)) return null;
    // It has come into the registry since the connection was opened.
    if (registry.lookupOutbound(target.address, target.port).kind !== 'unknown') return null;
    return `${target.address}:${target.port} is not in the registry, and outboundTrafficPolicy is REGISTRY_ONLY`;
  }

  #protocolOf(destination: KnownDestination): ApplicationProtocol {
    if (destination.kind === 'service') {
      const { protocol, port } = destination.port;
      return applicationProtocol(protocol, port, this.#opaquePorts);
    }
    const declared = this.#plane.view.registry.protocolServed(destination.workload.name, destination.port);
    return applicationProtocol(declared, destination.port, this.#opaquePorts);
  }

  /** What is not HTTP, or does not say within the deadline (where the server speaks first), is carried as it is. */
  #sniff(fd: number, from: Address, target: Address, destination: KnownDestination): void {
    const { loop, config } = this.#plane;
    const sniff = new SocketSniff(loop, fd, config.http.detectTimeoutMs, (first) => {
      this.#sniffing.delete(sniff);
      if (first === 'failed') this.#refuse(fd, from, target, 'INTERNAL', 'internal error');
      else if (first === 'http/1' || first === 'h2') this.#serveHttp(fd, from, target, destination, first);
      else this.#carryTo(fd, from, target, destination);
    });
    this.#sniffing.add(sniff);
  }

  #carryTo(fd: number, from: Address, target: Address, destination: KnownDestination): void {
    const choice = this.#choiceFor(destination);
    const service = destination.kind === 'service' ? serviceFacts(destination.service) : null;
    this.#carry(fd, from, target, { kind: 'mesh', choice, service });
  }

  #carry(fd: number, from: Address, target: Address, route: Route): void {
    new OutboundConnection(this.#plane, this.#pool, fd, this.#plane.self(), from, target, route);
  }

  #serveHttp(
    fd: number,
    from: Address,
    target: Address,
    destination: KnownDestination,
    version: HttpProtocol | null,
  ): void {
    const key = keyOf(destination);
    let http = this.#http.get(key);
    if (http === undefined) {
      http = new HttpDestination(this.#plane, this.#pool, () => this.#found(destination));
      this.#http.set(key, http);
    }
    http.refresh();
    const connection = new HttpOutboundConnection(this.#plane, fd, {
      source: this.#plane.self(),
      from,
      originalDestination: target,
      destination: http,
      version,
    });
    // Its first bytes were awaited when the drain began.
    if (this.#stopped) connection.drain();
  }

  /** The same destination as the registry has it now: by its name, whoever has its address meanwhile. */
  #found(destination: KnownDestination): Destination {
    const { view } = this.#plane;
    if (destination.kind === 'service') {
      return view.registry.service(destination.service.name, destination.port.port) ?? UNKNOWN_DESTINATION;
    }
    const { address, port } = destination.endpoint;
    const found = view.registry.lookupOutbound(address, port);
    const same = found.kind === 'workload' && found.workload.name === destination.workload.name;
    return same ? found : UNKNOWN_DESTINATION;
  }

  #choiceFor(destination: KnownDestination): EndpointChoice {
    const key = keyOf(destination);
    let choice = this.#choices.get(key);
    if (choice === undefined) {
      choice = new EndpointChoice(() => this.#plane.loop.now, Math.random);
      this.#choices.set(key, choice);
    }
    choice.update(destination);
    return choice;
  }

  #refuse(fd: number, from: Address, target: Address, flags: Flags, reason: string): void {
    recordRefusal(this.#plane, 'outbound', from, target, flags, reason);
    resetOnClose(fd);
    this.#plane.loop.close(fd);
  }

  /** Forgets balancers and pools that are not used; called now and then. */
  sweep(): void {
    const old = this.#plane.loop.now - CHOICE_RETAIN_MS;
    for (const [key, choice] of this.#choices) if (choice.lastUsed < old) this.#choices.delete(key);
    for (const [key, http] of this.#http) if (http.lastUsed < old && http.idle) this.#http.delete(key);
  }

  /** Our certificate, trust or the revocations changed, after the tunnels heard of it: pooled connections of before end when they are idle. */
  reconsider(): void {
    for (const http of this.#http.values()) http.reconsider();
  }

  /** The control plane is to be reached at these addresses from now on, whatever the registry says of them. */
  useControlPlane(addresses: readonly Address[]): void {
    this.#controlPlane = addresses;
  }

  resume(): void {
    for (const listener of this.#listeners) listener.resume();
  }

  stopListening(): void {
    this.#stopped = true;
    for (const listener of this.#listeners) listener.close();
  }
}
