import type { DataPlane } from '../connection/data-plane.ts';
import { serviceFacts } from '../connection/party.ts';
import { type Flags, recordRefusal } from '../connection/record.ts';
import { type Address, originalDestination, resetOnClose } from '../native/socket.ts';
import type { Destination } from '../protocol/destinations.ts';
import { Listener } from '../reactor/listener.ts';
import { EndpointChoice } from './endpoint-choice.ts';
import { OutboundConnection, type Route } from './outbound-connection.ts';
import type { TunnelPool } from './tunnel-pool.ts';

/** Balancers that nobody has used for so long are forgotten, milliseconds. */
const CHOICE_RETAIN_MS = 60_000;

/** The application's own connections: redirected to port 15001, or made to an explicit upstream listener. */
export class OutboundServer {
  readonly #plane: DataPlane;
  readonly #pool: TunnelPool;
  readonly #mayAccept: () => boolean;
  readonly #listeners: Listener[] = [];
  readonly #choices = new Map<string, EndpointChoice>();
  readonly #isOwn: (address: string) => boolean;

  constructor(plane: DataPlane, pool: TunnelPool, mayAccept: () => boolean, isOwn: (address: string) => boolean) {
    this.#plane = plane;
    this.#pool = pool;
    this.#mayAccept = mayAccept;
    this.#isOwn = isOwn;
  }

  /** Takes redirected connections. @throws Error with `errno` where the address cannot be listened on. */
  listenRedirected(at: Address): void {
    this.#listen(at, (fd, from) => this.#onRedirected(fd, from, at));
  }

  /** Takes connections to one service. @throws as `listenRedirected`. */
  listenUpstream(at: Address, service: string, port: number): void {
    this.#listen(at, (fd, from) => {
      const destination = this.#plane.view.service(service, port);
      if (destination === null) {
        this.#refuse(fd, from, at, 'NO_ROUTE', `the mesh has no service ${service} with port ${port}`);
        return;
      }
      this.#route(fd, from, at, destination);
    });
  }

  #listen(at: Address, onConnection: (fd: number, from: Address) => void): void {
    const { loop, metrics, log } = this.#plane;
    const listener = new Listener(loop, at, {
      mayAccept: this.#mayAccept,
      onConnection: (fd, from) => {
        // Not read before there is somewhere to go: what the application sends waits in its socket.
        if (loop.watch(fd, 0, { onEvents: () => {}, onFault: () => loop.close(fd) })) onConnection(fd, from);
      },
      onPause: (reason) => {
        metrics.acceptPaused();
        log('warn', 'accepting outbound connections is paused', { reason });
      },
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
    this.#route(fd, from, target, this.#plane.view.lookupOutbound(target.address, target.port));
  }

  #route(fd: number, from: Address, target: Address, destination: Destination): void {
    const route = this.#routeTo(target, destination);
    if (typeof route === 'string') {
      this.#refuse(fd, from, target, 'NO_ROUTE', route);
      return;
    }
    new OutboundConnection(this.#plane, this.#pool, fd, this.#plane.self(), from, target, route);
  }

  /** A string says why there is none. */
  #routeTo(target: Address, destination: Destination): Route | string {
    if (destination.kind === 'unknown') {
      // Where redirection exempts the sidecar by mark alone, its control thread's own connection comes by here; it must not depend on what it fetches.
      const { controlPlane } = this.#plane.config;
      if (controlPlane.some((at) => at.address === target.address && at.port === target.port))
        return { kind: 'passthrough', to: target };
      const policy = this.#plane.view.meshConfig?.outboundTrafficPolicy ?? 'REGISTRY_ONLY';
      if (policy === 'ALLOW_ANY') return { kind: 'passthrough', to: target };
      return `${target.address}:${target.port} is not in the registry, and outboundTrafficPolicy is REGISTRY_ONLY`;
    }
    const choice = this.#choiceFor(destination);
    if (destination.kind === 'workload') return { kind: 'mesh', choice, service: null };
    return { kind: 'mesh', choice, service: serviceFacts(destination.service) };
  }

  #choiceFor(destination: Exclude<Destination, { kind: 'unknown' }>): EndpointChoice {
    const key =
      destination.kind === 'service'
        ? `s|${destination.service.name}|${destination.port.port}`
        : `w|${destination.workload.name}|${destination.port}`;
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

  /** Forgets balancers that are not used; called now and then. */
  sweep(): void {
    const old = this.#plane.loop.now - CHOICE_RETAIN_MS;
    for (const [key, choice] of this.#choices) if (choice.lastUsed < old) this.#choices.delete(key);
  }

  resume(): void {
    for (const listener of this.#listeners) listener.resume();
  }

  stopListening(): void {
    for (const listener of this.#listeners) listener.close();
  }
}
