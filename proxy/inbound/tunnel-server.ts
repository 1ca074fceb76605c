import type { DataPlane } from '../connection/data-plane.ts';
import { TUNNEL_OUTLIVES_CERTIFICATE_MS } from '../connection/mesh-tls.ts';
import { type Party, partyOfCaller } from '../connection/party.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import { EPOLLIN } from '../native/epoll.ts';
import type { HeaderList } from '../native/hpack.ts';
import type { Address } from '../native/socket.ts';
import type { TlsFacts, TlsSession } from '../native/tls-session.ts';
import { parseBaggage, UNKNOWN_BAGGAGE } from '../protocol/baggage.ts';
import { parseConnectAuthority } from '../protocol/connect-authority.ts';
import { Listener } from '../reactor/listener.ts';
import { Timer } from '../reactor/timers.ts';
import { TlsHandshake } from '../reactor/tls-handshake.ts';
import { ErrorCode } from '../tunnel/frames.ts';
import type { StreamEnd, TunnelStream } from '../tunnel/stream.ts';
import { Tunnel } from '../tunnel/tunnel.ts';
import type { Application } from './application.ts';
import type { Authorizer } from './authorizer.ts';
import { type InboundCarrier, InboundConnection } from './inbound-connection.ts';

/** Of what a peer sent, so much comes back in the reason of a refusal. */
const MAX_ECHO = 40;

/** The tunnels that came to port 15008. */
export class TunnelServer {
  readonly #plane: DataPlane;
  readonly #authorizer: Authorizer;
  readonly #application: Application;
  readonly #tunnels = new Set<InboundTunnel>();
  readonly #handshakes = new Set<TlsHandshake>();
  readonly #listener: Listener;

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
    this.#listener = new Listener(plane.loop, at, {
      mayAccept: () => mayAccept() && this.#handshakes.size + this.#tunnels.size < plane.config.limits.maxConnections,
      onConnection: (fd, peer) => this.#accept(fd, peer),
      onPause: (reason) => {
        plane.metrics.acceptPaused();
        plane.log('warn', 'accepting tunnels is paused', { reason });
      },
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
    const tunnel = new InboundTunnel(
      this.#plane,
      this.#authorizer,
      this.#application,
      fd,
      tls,
      check.peer,
      from,
      () => {
        this.#tunnels.delete(tunnel);
        this.#listener.resume();
      },
    );
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

/** One tunnel of one authenticated peer; each of its streams is authorized by itself. */
class InboundTunnel {
  readonly #plane: DataPlane;
  readonly #authorizer: Authorizer;
  readonly #application: Application;
  readonly #peer: PeerIdentity;
  readonly #from: Address;
  readonly #facts: TlsFacts;
  readonly #tunnel: Tunnel;
  readonly #expiry = new Timer(() => this.#tunnel.close('its certificate expired long ago', ErrorCode.NO_ERROR));
  #baggage = '';
  #caller: Party;

  constructor(
    plane: DataPlane,
    authorizer: Authorizer,
    application: Application,
    fd: number,
    tls: TlsSession,
    peer: PeerIdentity,
    from: Address,
    onClosed: () => void,
  ) {
    this.#plane = plane;
    this.#authorizer = authorizer;
    this.#application = application;
    this.#peer = peer;
    this.#from = from;
    this.#facts = tls.facts();
    this.#caller = partyOfCaller(UNKNOWN_BAGGAGE, peer.spiffe.namespace, peer.spiffe.uri);
    const { limits } = plane.config;
    const options = {
      maxStreams: limits.maxStreamsPerTunnel,
      idleMs: limits.tunnelIdleTimeoutMs,
      streamIdleMs: limits.idleTimeoutMs,
      streamWindow: limits.bufferBytes,
      staging: plane.staging,
    };
    plane.metrics.tunnels('inbound', 1);
    plane.loop.arm(this.#expiry, peer.notAfter - plane.unixNow() + TUNNEL_OUTLIVES_CERTIFICATE_MS);
    this.#tunnel = new Tunnel(plane.loop, fd, tls, 'server', options, {
      onRequest: (stream, headers) => this.#onRequest(stream, headers),
      onStreamEnd: () => {},
      onDraining: () => {},
      onClosed: (reason) => {
        plane.loop.cancel(this.#expiry);
        plane.metrics.tunnels('inbound', -1);
        plane.log('debug', 'tunnel closed', { from: from.address, peer: peer.spiffe.uri, reason });
        onClosed();
      },
    });
  }

  reconsider(): void {
    const reason = this.#plane.tls.stillTrusted(this.#peer);
    if (reason !== null) this.#tunnel.close(reason, ErrorCode.NO_ERROR);
  }

  drain(): void {
    this.#tunnel.drain();
  }

  get hasUnsent(): boolean {
    return this.#tunnel.hasUnsent;
  }

  close(reason: string): void {
    this.#tunnel.close(reason, ErrorCode.NO_ERROR);
  }

  #onRequest(stream: TunnelStream, headers: HeaderList): void {
    let method = '';
    let authority: string | null = null;
    let baggage = '';
    let wrong = '';
    for (const [name, value] of headers) {
      if (name === ':method') method = value;
      else if (name === ':authority') wrong = authority === null ? wrong : 'more than one :authority';
      else if (name.startsWith(':')) wrong = `${name.slice(0, MAX_ECHO)} has no place in CONNECT`;
      else if (name === 'baggage') baggage = value;
      if (name === ':authority') authority ??= value;
    }
    const target = authority === null ? null : parseConnectAuthority(authority);
    if (method !== 'CONNECT' || wrong !== '' || target === null) {
      // RFC 9113, 8.5: :method and :authority and no other pseudo-header.
      stream.refuse(400, [
        ['x-postern-reason', wrong || 'CONNECT to an IP address and port is all that is served here'],
      ]);
      return;
    }
    if (this.#plane.table.size >= this.#plane.config.limits.maxConnections) {
      // The listener's limit cannot see the streams of tunnels that are open already.
      this.#plane.metrics.connectionFailure('inbound', 'LIMIT');
      stream.refuse(503, [['x-postern-reason', 'the sidecar has as many connections as it may have']]);
      return;
    }
    if (baggage !== this.#baggage) {
      this.#baggage = baggage;
      this.#caller = partyOfCaller(parseBaggage(baggage), this.#peer.spiffe.namespace, this.#peer.spiffe.uri);
    }
    const carrier = new StreamCarrier(stream);
    const connection = new InboundConnection(this.#plane, this.#authorizer, carrier, {
      target,
      source: this.#caller,
      from: this.#from,
      peer: this.#peer,
      transport: 'hbone',
      sni: '',
    });
    connection.record.tls = this.#facts;
    carrier.own(connection);
    connection.admit(this.#application);
  }
}

class StreamCarrier implements InboundCarrier {
  readonly #stream: TunnelStream;

  constructor(stream: TunnelStream) {
    this.#stream = stream;
  }

  own(connection: InboundConnection): void {
    this.#stream.owner = {
      onResponse: () => {},
      onEnd: (how: StreamEnd, detail: string) =>
        connection.end(how === 'idle' ? 'IDLE' : '-', how === 'closed' ? '' : detail),
    };
  }

  bytesForward(): number {
    return this.#stream.bytesToApplication;
  }

  bytesBack(): number {
    return this.#stream.bytesToPeer;
  }

  join(applicationFd: number): void {
    this.#stream.accept([]);
    this.#stream.attach(applicationFd);
  }

  refuse(status: 403 | 503, reason: string): void {
    this.#stream.refuse(status, [['x-postern-reason', reason]]);
  }

  cut(reason: string): void {
    this.#stream.abort(reason, ErrorCode.CANCEL);
  }
}
