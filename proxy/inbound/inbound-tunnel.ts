import type { DataPlane } from '../connection/data-plane.ts';
import { TUNNEL_OUTLIVES_CERTIFICATE_MS } from '../connection/mesh-tls.ts';
import { type Party, partyOfCaller } from '../connection/party.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import { type Flags, recordRefusal } from '../connection/record.ts';
import type { SniffResult } from '../connection/sniff.ts';
import { ErrorCode } from '../http2/frames.ts';
import type { Address } from '../native/socket.ts';
import type { TlsFacts, TlsSession } from '../native/tls-session.ts';
import { parseBaggage, UNKNOWN_BAGGAGE } from '../protocol/baggage.ts';
import { parseConnectAuthority } from '../protocol/connect-authority.ts';
import type { HeaderList } from '../protocol/hpack/header-list.ts';
import { Timer } from '../reactor/timers.ts';
import type { TunnelStream } from '../tunnel/stream.ts';
import { Tunnel } from '../tunnel/tunnel.ts';
import { placeOf } from './application-pools.ts';
import { carriedProtocol } from './detection.ts';
import { HttpInboundConnection } from './http-inbound-connection.ts';
import { InboundConnection } from './inbound-connection.ts';
import { type InboundFacts, whyCut } from './inbound-facts.ts';
import type { PortProtocol } from './port-protocols.ts';
import type { InboundServices } from './services.ts';
import { StreamCarrier } from './stream-carrier.ts';
import { StreamSniff } from './stream-sniff.ts';

/** Of what a peer sent, so much comes back in the reason of a refusal. */
const MAX_ECHO = 40;

/** How many streams there are, of all tunnels, whose first bytes are awaited: not in the table yet. */
export interface AwaitedStreams {
  count: number;
}

/** One tunnel of one authenticated peer; each of its streams is authorized by itself. */
export class InboundTunnel {
  readonly #plane: DataPlane;
  readonly #services: InboundServices;
  readonly #peer: PeerIdentity;
  readonly #from: Address;
  readonly #facts: TlsFacts;
  readonly #tunnel: Tunnel;
  readonly #expiry = new Timer(() => this.#tunnel.close('its certificate expired long ago', ErrorCode.NO_ERROR));
  #baggage = '';
  #caller: Party;
  readonly #awaited: AwaitedStreams;

  constructor(
    plane: DataPlane,
    services: InboundServices,
    awaited: AwaitedStreams,
    fd: number,
    tls: TlsSession,
    peer: PeerIdentity,
    from: Address,
    onClosed: () => void,
  ) {
    this.#plane = plane;
    this.#services = services;
    this.#awaited = awaited;
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
    if (this.#plane.table.size + this.#awaited.count >= this.#plane.config.limits.maxConnections) {
      // The listener's limit cannot see the streams of tunnels that are open already.
      this.#plane.metrics.connectionFailure('inbound', 'LIMIT');
      stream.refuse(503, [['x-postern-reason', 'the sidecar has as many connections as it may have']]);
      return;
    }
    if (baggage !== this.#baggage) {
      this.#baggage = baggage;
      this.#caller = partyOfCaller(parseBaggage(baggage), this.#peer.spiffe.namespace, this.#peer.spiffe.uri);
    }
    const facts: InboundFacts = {
      target,
      source: this.#caller,
      from: this.#from,
      peer: this.#peer,
      transport: 'hbone',
      tls: this.#facts,
      sni: '',
    };
    const port = this.#services.ports.at(target);
    if (port.protocol === 'opaque') this.#carry(stream, facts);
    else this.#sniff(stream, facts, port);
  }

  /**
   * Where HTTP is declared the CONNECT is answered at once, since it is the requests that are decided: callers that wait for the answer send nothing
   * before. Else the answer waits for the first bytes, so that a connection that is no HTTP can still be refused.
   */
  #sniff(stream: TunnelStream, facts: InboundFacts, port: PortProtocol): void {
    if (port.protocol === 'http') {
      const application = this.#services.application.locate(facts.target);
      if (typeof application === 'string') {
        this.#refuse(stream, facts, 'PROTOCOL', application, false);
        return;
      }
      stream.accept([]);
    }
    this.#awaited.count++;
    new StreamSniff(this.#plane.loop, stream, this.#plane.config.http.detectTimeoutMs, {
      onResult: (result) => {
        this.#awaited.count--;
        this.#onSniffed(stream, facts, port, result);
      },
      onGone: () => {
        this.#awaited.count--;
      },
    });
  }

  #onSniffed(stream: TunnelStream, facts: InboundFacts, port: PortProtocol, sniffed: SniffResult): void {
    const protocol = carriedProtocol(port, sniffed);
    if (protocol === 'opaque') {
      this.#carry(stream, facts);
      return;
    }
    const accepted = port.protocol === 'http';
    // Policies and trust may have changed while the first bytes were awaited.
    const cut = whyCut(this.#plane, this.#services.authorizer, facts);
    const application = this.#services.application.locate(facts.target);
    if (cut !== null || typeof application === 'string') {
      this.#refuse(stream, facts, cut?.flags ?? 'PROTOCOL', cut?.detail ?? String(application), accepted);
      return;
    }
    if (!accepted) stream.accept([]);
    const place = placeOf(application, protocol);
    new HttpInboundConnection(this.#plane, this.#services, facts, place, stream.openChannel());
  }

  #refuse(stream: TunnelStream, { from, target }: InboundFacts, flags: Flags, reason: string, accepted: boolean): void {
    recordRefusal(this.#plane, 'inbound', from, target, flags, reason);
    if (accepted) stream.abort(reason, ErrorCode.CANCEL);
    else stream.refuse(403, [['x-postern-reason', reason]]);
  }

  #carry(stream: TunnelStream, facts: InboundFacts): void {
    const carrier = new StreamCarrier(stream);
    const connection = new InboundConnection(this.#plane, this.#services.authorizer, carrier, facts);
    carrier.own(connection);
    connection.admit(this.#services.application);
  }
}
