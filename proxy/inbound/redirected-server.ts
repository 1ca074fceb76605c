import { acceptPauses } from '../connection/accept-pauses.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import type { HttpProtocol } from '../connection/http-sessions.ts';
import { partyOf } from '../connection/party.ts';
import { type FirstBytes, Peek } from '../connection/peek.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import { type Flags, recordRefusal, type Transport } from '../connection/record.ts';
import { EndSniff, type SniffResult, SocketSniff } from '../connection/sniff.ts';
import { EPOLLIN } from '../native/epoll.ts';
import { type Address, originalDestination, resetOnClose } from '../native/socket.ts';
import type { TlsFacts } from '../native/tls-session.ts';
import { isMeshAlpn } from '../protocol/client-hello.ts';
import { type ByteEnd, SocketEnd, TlsEnd } from '../reactor/ends.ts';
import { Listener } from '../reactor/listener.ts';
import { SocketChannel } from '../reactor/socket-channel.ts';
import { TlsHandshake } from '../reactor/tls-handshake.ts';
import { placeOf } from './application-pools.ts';
import { carriedProtocol, protocolOfAlpn } from './detection.ts';
import { HttpInboundConnection } from './http-inbound-connection.ts';
import { InboundConnection } from './inbound-connection.ts';
import { type InboundFacts, whyCut } from './inbound-facts.ts';
import type { PortProtocol } from './port-protocols.ts';
import type { InboundServices } from './services.ts';
import { SocketCarrier } from './socket-carrier.ts';

/** One connection on its way in: what is known of it before its protocol is. */
interface Arrival {
  readonly fd: number;
  readonly end: ByteEnd;
  readonly from: Address;
  readonly target: Address;
  readonly port: PortProtocol;
  readonly peer: PeerIdentity | null;
  readonly transport: Transport;
  readonly tls: TlsFacts | null;
  readonly sni: string;
}

/** Connections that nftables or iptables turned to port 15006: direct mutual TLS, other TLS, or plaintext, as PeerAuthentication allows. */
export class RedirectedServer {
  readonly #plane: DataPlane;
  readonly #services: InboundServices;
  readonly #listener: Listener;
  readonly #at: Address;
  /** Connections whose first bytes or handshake are awaited: not in the table yet. */
  #pending = 0;

  /** @throws Error with `errno` where the address cannot be listened on. */
  constructor(plane: DataPlane, services: InboundServices, at: Address, mayAccept: () => boolean) {
    this.#plane = plane;
    this.#services = services;
    this.#at = at;
    this.#listener = new Listener(plane.loop, at, {
      mayAccept: () => mayAccept() && plane.table.size + this.#pending < plane.config.limits.maxConnections,
      onConnection: (fd, peer) => this.#accept(fd, peer),
      onPause: acceptPauses(plane, 'inbound connections'),
    });
  }

  stopListening(): void {
    this.#listener.close();
  }

  resume(): void {
    this.#listener.resume();
  }

  /** One connection, top to bottom: destination, mode, first bytes, handshake where it is ours, protocol, then as every inbound connection. */
  #accept(fd: number, from: Address): void {
    const { loop, config } = this.#plane;
    const { application, authorizer, ports } = this.#services;
    if (!loop.watch(fd, EPOLLIN, { onEvents: () => {}, onFault: () => loop.close(fd) })) return;
    const target = originalDestination(fd, from.address.includes(':'));
    if (target === null || (target.port === this.#at.port && application.isOwn(target.address))) {
      this.#refuse(
        fd,
        from,
        target ?? this.#at,
        'PROTOCOL',
        'the connection was not redirected here: its destination is the sidecar itself',
      );
      return;
    }
    const port = ports.at(target);
    const arrival: Arrival = {
      fd,
      end: new SocketEnd(fd),
      from,
      target,
      port,
      peer: null,
      transport: 'plaintext',
      tls: null,
      sni: '',
    };
    if (authorizer.mode(target.port) === 'DISABLE') {
      this.#sniffPlain(arrival);
      return;
    }
    this.#pending++;
    new Peek(loop, fd, config.limits.peekTimeoutMs, (first) => {
      this.#pending--;
      this.#onFirstBytes(arrival, first);
    });
  }

  #onFirstBytes(arrival: Arrival, first: FirstBytes): void {
    const { fd, from, target } = arrival;
    // As it is now: NEVER what it was when the connection came, which nobody has decided again meanwhile.
    const mode = this.#services.authorizer.mode(target.port);
    if (mode === 'DISABLE') {
      this.#sniffPlain(arrival);
      return;
    }
    if (first.kind === 'malformed') {
      this.#refuse(fd, from, target, 'PROTOCOL', first.reason);
      return;
    }
    const tls = first.kind === 'tls';
    if (tls && (mode === 'STRICT' || isMeshAlpn(first.alpn))) {
      this.#secure(arrival, first.sni);
      return;
    }
    if (mode === 'STRICT') {
      this.#refuse(fd, from, target, 'DENY', this.#services.authorizer.plaintextRefusal);
      return;
    }
    // Of TLS that is not ours the SNI is known, but no identity; what is in it nobody sees.
    if (tls) this.#carry({ ...arrival, transport: 'tls-passthrough', sni: first.sni }, null);
    else if (first.kind === 'silent' || first.kind === 'ended') this.#admit(arrival, first.kind, null);
    else this.#sniffPlain(arrival);
  }

  #secure(arrival: Arrival, sni: string): void {
    const { loop, tls, config } = this.#plane;
    const { fd, from, target } = arrival;
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
          const facts = session.facts();
          const end = new TlsEnd(secured, session);
          this.#sniffSecure({ ...arrival, fd: secured, end, peer: check.peer, transport: 'mtls', tls: facts, sni });
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

  #sniffPlain(arrival: Arrival): void {
    if (arrival.port.protocol === 'opaque') {
      this.#carry(arrival, null);
      return;
    }
    this.#pending++;
    const { loop, config } = this.#plane;
    new SocketSniff(loop, arrival.fd, config.http.detectTimeoutMs, (result) => {
      this.#pending--;
      this.#admit(arrival, result, null);
    });
  }

  #sniffSecure(arrival: Arrival): void {
    const { port, tls, end } = arrival;
    const declared = protocolOfAlpn(tls?.alpn ?? '');
    if (port.protocol === 'opaque') this.#carry(arrival, null);
    else if (declared !== null) this.#serve(arrival, declared, null);
    else {
      this.#pending++;
      const { loop, config } = this.#plane;
      new EndSniff(loop, end, config.http.detectTimeoutMs, (result, taken) => {
        this.#pending--;
        this.#admit(arrival, result, taken);
      });
    }
  }

  #admit(arrival: Arrival, sniffed: SniffResult, taken: Buffer | null): void {
    if (sniffed === 'failed') {
      const { from, target, end, fd } = arrival;
      recordRefusal(this.#plane, 'inbound', from, target, 'PROTOCOL', `the connection failed: ${end.failure}`);
      end.release(true);
      this.#plane.loop.close(fd);
      return;
    }
    // Policies and trust may have changed while the first bytes were awaited.
    const cut = whyCut(this.#plane, this.#services.authorizer, arrival);
    if (cut !== null) {
      const { fd, end, from, target } = arrival;
      end.release(true);
      this.#refuse(fd, from, target, cut.flags, cut.detail);
      return;
    }
    const protocol = carriedProtocol(arrival.port, sniffed);
    if (protocol === 'opaque') this.#carry(arrival, taken);
    else this.#serve(arrival, protocol, taken);
  }

  #factsOf({ target, from, peer, transport, tls, sni }: Arrival): InboundFacts {
    const source = partyOf(this.#plane.view.registry.workloadAt(from.address), peer?.spiffe.uri ?? null);
    return { target, from, peer, transport, tls, sni, source };
  }

  /** @param taken what was read of it already */
  #carry(arrival: Arrival, taken: Buffer | null): void {
    const { fd, end } = arrival;
    this.#plane.loop.rearm(fd, 0);
    const carrier = new SocketCarrier(this.#plane, end, taken);
    const connection = new InboundConnection(this.#plane, this.#services.authorizer, carrier, this.#factsOf(arrival));
    carrier.own(connection);
    connection.admit(this.#services.application);
  }

  #serve(arrival: Arrival, protocol: HttpProtocol, taken: Buffer | null): void {
    const { fd, end, from, target } = arrival;
    const application = this.#services.application.locate(target);
    if (typeof application === 'string') {
      end.release(true);
      this.#refuse(fd, from, target, 'PROTOCOL', application);
      return;
    }
    const facts = this.#factsOf(arrival);
    const channel = new SocketChannel(this.#plane.loop, end, taken);
    new HttpInboundConnection(this.#plane, this.#services, facts, placeOf(application, protocol), channel);
  }
}
