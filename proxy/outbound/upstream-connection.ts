import type { DataPlane } from '../connection/data-plane.ts';
import { type HttpProtocol, openClientSession } from '../connection/http-sessions.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import type { Transport } from '../connection/record.ts';
import type { ConnectionOwner } from '../connection/session-pool.ts';
import type { ClientSession, ClientSessionOwner } from '../http/exchange.ts';
import type { TlsFacts } from '../native/tls-session.ts';
import { formatConnectAuthority } from '../protocol/connect-authority.ts';
import type { Endpoint } from '../protocol/destinations.ts';
import type { HeaderList } from '../protocol/hpack/header-list.ts';
import type { Channel } from '../reactor/channel.ts';
import { Dial } from '../reactor/dial.ts';
import { SocketEnd } from '../reactor/ends.ts';
import { SocketChannel } from '../reactor/socket-channel.ts';
import { Timer } from '../reactor/timers.ts';
import type { StreamEnd } from '../tunnel/stream.ts';
import { DirectDial } from './direct-dial.ts';
import type { TunnelPool } from './tunnel-pool.ts';
import type { AheadOfAnswer, TunnelRefusal, Upstream } from './upstream.ts';

/** What the registry says of an endpoint, in words of the record. */
const TRANSPORTS: { readonly [protocol in Endpoint['protocol']]: Transport } = {
  HBONE: 'hbone',
  ISTIO: 'mtls',
  NONE: 'plaintext',
};

/**
 * One HTTP connection to an endpoint: a stream of a tunnel, direct mutual TLS, or plaintext, as the registry says; its server has shown the identity
 * that the registry expects. Requests leave ahead of the answer to CONNECT, which saves a round trip; a refusal is told to each of them.
 */
export class UpstreamConnection implements Upstream, ClientSessionOwner {
  listIndex = -1;
  readonly transport: Transport;
  readonly keepsUnused: boolean;
  tls: TlsFacts | null = null;
  principal: string | null = null;
  served = 0;
  ready = false;
  refusal: TunnelRefusal | null = null;
  readonly #plane: DataPlane;
  readonly #tunnels: TunnelPool;
  readonly #endpoint: Endpoint;
  readonly #version: HttpProtocol;
  readonly #owner: ConnectionOwner<Upstream>;
  /** Null iff nothing is being tried. */
  #giveUp: (() => void) | null = null;
  #channel: Channel | null = null;
  #session: ClientSession | null = null;
  /** Null unless the answer to CONNECT is awaited. */
  #ahead: Set<AheadOfAnswer> | null = null;
  /** As for every other connection: an endpoint that cannot be connected in time is none. */
  readonly #answerDue = new Timer(() => this.#onNoAnswer());
  /** Of direct mutual TLS. */
  #peer: PeerIdentity | null = null;
  #generation = 0;

  constructor(
    plane: DataPlane,
    tunnels: TunnelPool,
    endpoint: Endpoint,
    version: HttpProtocol,
    owner: ConnectionOwner<Upstream>,
  ) {
    this.#plane = plane;
    this.#tunnels = tunnels;
    this.#endpoint = endpoint;
    this.#version = version;
    this.#owner = owner;
    this.transport = TRANSPORTS[endpoint.protocol];
    this.keepsUnused = this.transport === 'mtls' || version === 'h2';
  }

  /** @throws Error before it is open. */
  get session(): ClientSession {
    if (this.#session === null) throw new Error('the connection is not open yet');
    return this.#session;
  }

  open(): void {
    if (this.#endpoint.protocol === 'HBONE') this.#openStream();
    else if (this.#endpoint.protocol === 'ISTIO') this.#dialDirect();
    else this.#dialPlain();
  }

  #begin(channel: Channel): void {
    this.#giveUp = null;
    this.#channel = channel;
    try {
      this.#session = openClientSession(this.#plane, this.#version, channel, this);
    } catch (error) {
      channel.abort('internal error');
      this.#plane.loop.later(() => this.#fail('internal error'));
      throw error;
    }
    this.#owner.onOpen(this);
  }

  #fail(reason: string): void {
    this.#giveUp = null;
    this.#owner.onConnectFailed(this, reason);
  }

  // ---- through a tunnel ----

  #openStream(): void {
    const { address, port, workload } = this.#endpoint;
    const giveUp = this.#tunnels.seek(this.#endpoint, {
      headers: [
        [':method', 'CONNECT'],
        [':authority', formatConnectAuthority(address, port)],
        ['baggage', this.#plane.baggage],
      ],
      owner: {
        onResponse: (status, headers) => this.#onAnswer(status, headers),
        onEnd: (how, detail) => this.#onStreamEnd(how, detail),
      },
      onStream: (stream, facts) => {
        this.tls = facts;
        this.principal = workload.identity;
        this.#ahead = new Set();
        this.#plane.loop.arm(this.#answerDue, this.#plane.config.limits.connectTimeoutMs);
        this.#begin(stream.openChannel());
      },
      onNoTunnel: (_flags, reason) => this.#fail(reason),
    });
    if (this.#session === null) this.#giveUp = giveUp;
  }

  #onAnswer(status: number, headers: HeaderList): void {
    if (status === 200) {
      this.#answered();
      return;
    }
    const told = headers.find(([name]) => name === 'x-postern-reason')?.[1];
    this.#refuse({ status, certain: true, reason: told ?? `CONNECT answered ${status}` });
  }

  /** Of every other end the session hears by its channel. */
  #onStreamEnd(how: StreamEnd, detail: string): void {
    // REFUSED_STREAM: not even looked at (RFC 9113, 8.7).
    if (how === 'refused' && this.#ahead !== null) this.#refuse({ status: 0, certain: true, reason: detail });
  }

  #onNoAnswer(): void {
    const reason = 'CONNECT was not answered in time';
    this.#refuse({ status: 0, certain: false, reason });
    this.#session?.close(reason);
  }

  /** @returns the requests that were sent ahead. */
  #answered(): ReadonlySet<AheadOfAnswer> {
    const ahead = this.#ahead ?? new Set();
    this.#ahead = null;
    this.#plane.loop.cancel(this.#answerDue);
    return ahead;
  }

  #refuse(refusal: TunnelRefusal): void {
    this.refusal = refusal;
    for (const request of this.#answered()) request.onRefused(refusal);
  }

  awaitAnswer(request: AheadOfAnswer): void {
    this.#ahead?.add(request);
  }

  forget(request: AheadOfAnswer): void {
    this.#ahead?.delete(request);
  }

  // ---- direct ----

  #dialDirect(): void {
    const alpn = this.#version === 'h2' ? 'istio-h2' : 'istio-http/1.1';
    const dial = new DirectDial(this.#plane, this.#endpoint, alpn, {
      onSecured: ({ end, facts, peer, generation }) => {
        this.tls = facts;
        this.principal = peer.spiffe.uri;
        this.#peer = peer;
        this.#generation = generation;
        this.#begin(new SocketChannel(this.#plane.loop, end));
      },
      onFailed: (_flags, reason) => this.#fail(reason),
    });
    this.#giveUp = () => dial.cancel();
  }

  #dialPlain(): void {
    const { loop, config } = this.#plane;
    const { address, port } = this.#endpoint;
    const dial = new Dial(loop, this.#endpoint, config.outbound.mark, config.limits.connectTimeoutMs, {
      onConnected: (fd) => this.#begin(new SocketChannel(loop, new SocketEnd(fd))),
      onFailed: (reason) => this.#fail(`${address}:${port}: ${reason}`),
    });
    this.#giveUp = () => dial.cancel();
  }

  // ---- life ----

  outdated(): string | null {
    if (this.refusal !== null) return this.refusal.reason;
    if (this.#channel?.retiring === true) return 'what is below it is about to end';
    if (this.#peer === null || this.#generation === this.#plane.tls.generation) return null;
    return 'our certificate or our trust has changed';
  }

  /** Of a tunnel's peer the tunnels' pool takes care. */
  distrusted(): string | null {
    return this.#peer === null ? null : this.#plane.tls.stillTrusted(this.#peer);
  }

  close(detail: string): void {
    this.#giveUp?.();
    this.#giveUp = null;
    this.#session?.close(detail);
  }

  onRoom(): void {
    // An exchange that fails within `begin` of the first request would come here before the owner knows of us.
    if (this.#session !== null) this.#owner.onRoom(this);
  }

  onSessionEnd(_session: ClientSession, detail: string): void {
    this.#plane.loop.cancel(this.#answerDue);
    this.#owner.onGone(this, detail);
  }
}
