import { acceptPauses } from '../connection/accept-pauses.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { EPOLLIN } from '../native/epoll.ts';
import type { Address } from '../native/socket.ts';
import type { TlsSession } from '../native/tls-session.ts';
import { Listener } from '../reactor/listener.ts';
import { TlsHandshake } from '../reactor/tls-handshake.ts';
import { type AwaitedStreams, InboundTunnel } from './inbound-tunnel.ts';
import type { InboundServices } from './services.ts';

/** The tunnels that came to port 15008. */
export class TunnelServer {
  readonly #plane: DataPlane;
  readonly #services: InboundServices;
  readonly #tunnels = new Set<InboundTunnel>();
  readonly #awaited: AwaitedStreams = { count: 0 };
  readonly #handshakes = new Set<TlsHandshake>();
  readonly #listener: Listener;

  /** @throws Error with `errno` where the address cannot be listened on. */
  constructor(plane: DataPlane, services: InboundServices, at: Address, mayAccept: () => boolean) {
    this.#plane = plane;
    this.#services = services;
    this.#listener = new Listener(plane.loop, at, {
      mayAccept: () => mayAccept() && this.#handshakes.size + this.#tunnels.size < plane.config.limits.maxConnections,
      onConnection: (fd, peer) => this.#accept(fd, peer),
      onPause: acceptPauses(plane, 'tunnels'),
    });
  }

  #accept(fd: number, from: Address): void {
    const { loop, tls, config } = this.#plane;
    const nobody = { onEvents: () => {}, onFault: () => loop.close(fd) };
    if (!loop.watch(fd, EPOLLIN, nobody)) return;
    const { contexts, generation } = tls;
    if (contexts === null) {
      this.#failed(from, 'no certificate yet');
      loop.close(fd);
      return;
    }
    const handshake = new TlsHandshake(loop, fd, contexts.tunnelServer, 'server', config.limits.handshakeTimeoutMs, {
      onFailed: (reason) => {
        this.#handshakes.delete(handshake);
        this.#failed(from, reason);
      },
      onSecured: (secured, session) => {
        this.#handshakes.delete(handshake);
        this.#secured(secured, session, from, generation);
      },
    });
    this.#handshakes.add(handshake);
  }

  #failed(from: Address, reason: string): void {
    this.#plane.metrics.handshakeFailure('inbound', reason);
    this.#plane.log('info', 'a tunnel was refused', { from: from.address, reason });
  }

  #secured(fd: number, tls: TlsSession, from: Address, generation: number): void {
    const check = this.#plane.tls.checkPeer(tls, null, generation);
    if (!check.ok || tls.alpn() !== 'h2') {
      this.#failed(from, check.ok ? 'the peer did not offer h2' : check.reason);
      tls.free();
      this.#plane.loop.close(fd);
      return;
    }
    const tunnel = new InboundTunnel(this.#plane, this.#services, this.#awaited, fd, tls, check.peer, from, () => {
      this.#tunnels.delete(tunnel);
      this.#listener.resume();
    });
    this.#tunnels.add(tunnel);
  }

  /** After the trust bundle or the revocations changed. */
  reconsider(): void {
    for (const tunnel of [...this.#tunnels]) tunnel.reconsider();
  }

  stopListening(): void {
    this.#listener.close();
    for (const handshake of this.#handshakes) handshake.cancel();
    this.#handshakes.clear();
  }

  drain(): void {
    for (const tunnel of [...this.#tunnels]) tunnel.drain();
  }

  get size(): number {
    return this.#tunnels.size;
  }

  /** Whether bytes of streams that are over wait in a tunnel for the socket to take them. */
  get hasUnsent(): boolean {
    for (const tunnel of this.#tunnels) if (tunnel.hasUnsent) return true;
    return false;
  }

  /** Ends every tunnel; peers are told which streams were not begun, so that they may try them elsewhere. */
  close(reason: string): void {
    for (const tunnel of [...this.#tunnels]) tunnel.close(reason);
  }
}
