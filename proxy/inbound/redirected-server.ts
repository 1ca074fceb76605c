import type { DataPlane } from '../connection/data-plane.ts';
import { partyOf } from '../connection/party.ts';
import { type FirstBytes, Peek } from '../connection/peek.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import { type Flags, recordRefusal, type Transport } from '../connection/record.ts';
import { EPOLLIN } from '../native/epoll.ts';
import { type Address, originalDestination, resetOnClose } from '../native/socket.ts';
import type { TlsSession } from '../native/tls-session.ts';
import { isMeshAlpn } from '../protocol/client-hello.ts';
import { type ByteEnd, SocketEnd, TlsEnd } from '../reactor/ends.ts';
import { Listener } from '../reactor/listener.ts';
import { Relay } from '../reactor/relay.ts';
import { TlsHandshake } from '../reactor/tls-handshake.ts';
import type { Application } from './application.ts';
import type { Authorizer } from './authorizer.ts';
import { type InboundCarrier, InboundConnection } from './inbound-connection.ts';

/** Connections that nftables or iptables turned to port 15006: direct mutual TLS, other TLS, or plaintext, as PeerAuthentication allows. */
export class RedirectedServer {
  readonly #plane: DataPlane;
  readonly #authorizer: Authorizer;
  readonly #application: Application;
  readonly #listener: Listener;
  readonly #at: Address;
  /** Connections whose first bytes or handshake are awaited: not in the table yet. */
  #pending = 0;

  /** @throws Error with `errno` where the address cannot be listened on. */
  constructor(
    plane: DataPlane,
    authorizer: Authorizer,
    application: Application,
    at: Address,
    mayAccept: () => boolean,
  ) {
    this.#plane = plane;
    this.#authorizer = authorizer;
    this.#application = application;
    this.#at = at;
    this.#listener = new Listener(plane.loop, at, {
      mayAccept: () => mayAccept() && plane.table.size + this.#pending < plane.config.limits.maxConnections,
      onConnection: (fd, peer) => this.#accept(fd, peer),
      onPause: (reason) => {
        plane.metrics.acceptPaused();
        plane.log('warn', 'accepting inbound connections is paused', { reason });
      },
    });
  }

  stopListening(): void {
    this.#listener.close();
  }

  resume(): void {
    this.#listener.resume();
  }

  /** One connection, top to bottom: destination, mode, first bytes, handshake where it is ours, then as every inbound connection. */
  #accept(fd: number, from: Address): void {
    const { loop, config } = this.#plane;
    if (!loop.watch(fd, EPOLLIN, { onEvents: () => {}, onFault: () => loop.close(fd) })) return;
    const target = originalDestination(fd, from.address.includes(':'));
    if (target === null || (target.port === this.#at.port && this.#application.isOwn(target.address))) {
      this.#refuse(
        fd,
        from,
        target ?? this.#at,
        'PROTOCOL',
        'the connection was not redirected here: its destination is the sidecar itself',
      );
      return;
    }
    const mode = this.#authorizer.mode(target.port);
    if (mode === 'DISABLE') {
      this.#carry(fd, new SocketEnd(fd), { target, from, peer: null, transport: 'plaintext', sni: '' });
      return;
    }
    this.#pending++;
    new Peek(loop, fd, config.limits.peekTimeoutMs, (first) => {
      this.#pending--;
      this.#onFirstBytes(fd, from, target, mode, first);
    });
  }

  #onFirstBytes(fd: number, from: Address, target: Address, mode: 'STRICT' | 'PERMISSIVE', first: FirstBytes): void {
    if (first.kind === 'malformed') {
      this.#refuse(fd, from, target, 'PROTOCOL', first.reason);
      return;
    }
    const tls = first.kind === 'tls';
    if (tls && (mode === 'STRICT' || isMeshAlpn(first.alpn))) {
      this.#secure(fd, from, target, first.sni);
      return;
    }
    if (mode === 'STRICT') {
      this.#refuse(fd, from, target, 'DENY', 'plaintext is refused: PeerAuthentication is STRICT');
      return;
    }
    // Of TLS that is not ours the SNI is known, but no identity.
    const transport: Transport = tls ? 'tls-passthrough' : 'plaintext';
    this.#carry(fd, new SocketEnd(fd), { target, from, peer: null, transport, sni: tls ? first.sni : '' });
  }

  #secure(fd: number, from: Address, target: Address, sni: string): void {
    const { loop, tls, config } = this.#plane;
    if (tls.contexts === null) {
      this.#refuse(fd, from, target, 'TLS_FAILURE', 'no certificate yet');
      return;
    }
    this.#pending++;
    const { generation } = tls;
    new TlsHandshake(loop, fd, tls.contexts.directServer, 'server', config.limits.handshakeTimeoutMs, {
      onFailed: (reason) => {
        this.#pending--;
        this.#handshakeFailed(from, target, reason);
      },
      onSecured: (secured, session) => {
        this.#pending--;
        const check = tls.checkPeer(session, null, generation);
        if (check.ok) {
          const end = new TlsEnd(secured, session);
          this.#carry(secured, end, { target, from, peer: check.peer, transport: 'mtls', sni }, session);
          return;
        }
        this.#handshakeFailed(from, target, check.reason);
        session.free();
        loop.close(secured);
      },
    });
  }

  #handshakeFailed(from: Address, target: Address, reason: string): void {
    this.#plane.metrics.handshakeFailure('inbound', reason);
    recordRefusal(this.#plane, 'inbound', from, target, 'TLS_FAILURE', reason);
  }

  #refuse(fd: number, from: Address, target: Address, flags: Flags, reason: string): void {
    recordRefusal(this.#plane, 'inbound', from, target, flags, reason);
    resetOnClose(fd);
    this.#plane.loop.close(fd);
  }

  #carry(
    fd: number,
    end: ByteEnd,
    facts: { target: Address; from: Address; peer: PeerIdentity | null; transport: Transport; sni: string },
    session: TlsSession | null = null,
  ): void {
    const { loop, view } = this.#plane;
    loop.rearm(fd, 0);
    const carrier = new SocketCarrier(this.#plane, fd, end);
    const source = partyOf(view.workloadAt(facts.from.address), facts.peer?.spiffe.uri ?? null);
    const connection = new InboundConnection(this.#plane, this.#authorizer, carrier, { ...facts, source });
    connection.record.tls = session?.facts() ?? null;
    carrier.own(connection);
    connection.admit(this.#application);
  }
}

/** A peer's socket, relayed to the application. */
class SocketCarrier implements InboundCarrier {
  readonly #plane: DataPlane;
  readonly #fd: number;
  readonly #end: ByteEnd;
  #connection: InboundConnection | null = null;
  #relay: Relay | null = null;

  constructor(plane: DataPlane, fd: number, end: ByteEnd) {
    this.#plane = plane;
    this.#fd = fd;
    this.#end = end;
  }

  own(connection: InboundConnection): void {
    this.#connection = connection;
  }

  bytesForward(): number {
    return this.#relay?.bytesForward ?? 0;
  }

  bytesBack(): number {
    return this.#relay?.bytesBack ?? 0;
  }

  join(applicationFd: number): void {
    const { loop, config } = this.#plane;
    this.#relay = new Relay(loop, this.#end, new SocketEnd(applicationFd), config.limits.idleTimeoutMs, {
      onEnd: (how, detail) => this.#connection?.end(how === 'idle' ? 'IDLE' : '-', detail),
    });
  }

  refuse(): void {
    this.#end.release(true);
    this.#plane.loop.close(this.#fd);
  }

  cut(reason: string): void {
    this.#relay?.close('aborted', reason);
  }
}
