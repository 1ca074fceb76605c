import type { DataPlane } from '../connection/data-plane.ts';
import { type Party, partyOf, type ServiceFacts } from '../connection/party.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import { ConnectionRecord, type Flags } from '../connection/record.ts';
import type { LiveConnection } from '../connection/table.ts';
import { ErrorCode } from '../http2/frames.ts';
import { type Address, resetOnClose } from '../native/socket.ts';
import { formatConnectAuthority } from '../protocol/connect-authority.ts';
import type { Endpoint } from '../protocol/destinations.ts';
import { Dial } from '../reactor/dial.ts';
import { SocketEnd, type TlsEnd } from '../reactor/ends.ts';
import { Relay } from '../reactor/relay.ts';
import type { StreamEnd, TunnelStream } from '../tunnel/stream.ts';
import { DirectDial } from './direct-dial.ts';
import type { EndpointChoice } from './endpoint-choice.ts';
import type { TunnelPool } from './tunnel-pool.ts';

/** Endpoints tried for one connection, while nothing of it has been lost. */
const MAX_ATTEMPTS = 3;

/** Where a connection of the application is going. */
export type Route =
  /** Outside the mesh: as it is. */
  | {
      readonly kind: 'passthrough';
      readonly to: Address;
      /** As the mesh is now; null: it may pass. */
      whyNot(): string | null;
    }
  /** To an endpoint of the choice, which balances. */
  | {
      readonly kind: 'mesh';
      readonly choice: EndpointChoice;
      readonly service: ServiceFacts | null;
    };

/**
 * One connection of the application: an endpoint is chosen, reached (tunnel, direct mutual TLS or plaintext), checked to be who the registry says,
 * and joined. An endpoint that refuses is skipped while no byte was lost. Owns the application's socket from the moment it is made.
 */
export class OutboundConnection implements LiveConnection {
  readonly record: ConnectionRecord;
  listIndex = -1;
  readonly #plane: DataPlane;
  readonly #pool: TunnelPool;
  readonly #route: Route;
  #fd: number;
  /** Read from the application for an endpoint that then refused; sent again to the next. */
  #replay: readonly Buffer[] = [];
  #picked: ReturnType<EndpointChoice['pick']> = null;
  #giveUp: (() => void) | null = null;
  #stream: TunnelStream | null = null;
  #relay: Relay | null = null;
  #peer: PeerIdentity | null = null;
  #over = false;

  constructor(
    plane: DataPlane,
    pool: TunnelPool,
    fd: number,
    source: Party,
    from: Address,
    originalDestination: Address,
    route: Route,
  ) {
    this.#plane = plane;
    this.#pool = pool;
    this.#fd = fd;
    this.#route = route;
    this.record = new ConnectionRecord(plane, 'outbound', source, from, partyOf(null, null), originalDestination);
    this.record.originalDestination = originalDestination;
    if (route.kind === 'mesh') this.record.service = route.service;
    plane.table.add(this);
    this.#attempt('NO_HEALTHY_UPSTREAM', 'the service has no endpoint');
  }

  /** @param otherwise why to give up where no endpoint is left. */
  #attempt(flags: Flags, otherwise: string): void {
    if (this.#route.kind === 'passthrough') {
      if (this.record.attempts++ > 0) this.#fail(flags, otherwise);
      else this.#dialPlain(this.#route.to);
      return;
    }
    const picked = this.record.attempts < MAX_ATTEMPTS ? this.#route.choice.pick() : null;
    if (picked === null) {
      this.#fail(flags, otherwise);
      return;
    }
    this.record.attempts++;
    this.#picked = picked;
    const endpoint = picked.target;
    this.record.destination = partyOf(endpoint.workload, null);
    this.record.to = endpoint;
    if (endpoint.protocol === 'HBONE') this.#seekStream(endpoint);
    else if (endpoint.protocol === 'ISTIO') this.#dialDirect(endpoint);
    else this.#dialPlain(endpoint);
  }

  /** This endpoint did not work; another may. */
  #next(flags: Flags, reason: string, innocent = false): void {
    if (this.#over) return;
    this.#giveUp = null;
    if (this.#picked !== null && this.#route.kind === 'mesh') {
      if (innocent) this.#route.choice.release(this.#picked);
      else this.#route.choice.failed(this.#picked);
      this.#picked = null;
    }
    this.#attempt(flags, reason);
  }

  #works(): void {
    this.#giveUp = null;
    if (this.#picked !== null && this.#route.kind === 'mesh') this.#route.choice.succeeded(this.#picked);
  }

  // ---- through a tunnel ----

  #seekStream(endpoint: Endpoint): void {
    this.record.transport = 'hbone';
    const owner = {
      onResponse: (status: number, headers: readonly (readonly [string, string])[]) =>
        this.#onResponse(endpoint, status, headers),
      onEnd: (how: StreamEnd, detail: string) => this.#onStreamEnd(how, detail),
    };
    const headers = [
      [':method', 'CONNECT'],
      [':authority', formatConnectAuthority(endpoint.address, endpoint.port)],
      ['baggage', this.#plane.baggage],
    ] as const;
    this.#giveUp = this.#pool.seek(endpoint, {
      headers,
      owner,
      onStream: (stream, facts) => {
        this.#stream = stream;
        this.record.tls = facts;
        this.record.destination = partyOf(endpoint.workload, endpoint.workload.identity);
        const fd = this.#fd;
        this.#fd = -1;
        stream.attach(fd, this.#replay);
      },
      onNoTunnel: (flags, reason) => this.#next(flags, reason),
    });
  }

  #onResponse(endpoint: Endpoint, status: number, headers: readonly (readonly [string, string])[]): void {
    if (status === 200) {
      this.#works();
      this.record.established();
      return;
    }
    // 0: it was not processed, by no fault of the endpoint's.
    const innocent = status === 0;
    const reason = headers.find(([name]) => name === 'x-postern-reason')?.[1] ?? `CONNECT answered ${status}`;
    if (innocent || status === 503 || status === 502 || status === 504) {
      const taken = this.#stream?.takeSocket() ?? null;
      if (taken !== null) {
        this.#stream = null;
        this.#fd = taken.fd;
        this.#replay = taken.replay;
        this.#plane.loop.later(() => {
          if (!this.#over) this.#next('CONNECT', `${endpoint.name}: ${reason}`, innocent);
        });
        return;
      }
    }
    // A policy's refusal is the endpoint's decision, not its failure: no other endpoint is asked.
    this.#finish(status === 403 ? 'DENY' : 'CONNECT', `${endpoint.name}: ${reason}`);
  }

  #onStreamEnd(how: StreamEnd, detail: string): void {
    // Null: the socket was taken back for another endpoint.
    if (this.#stream !== null) this.#finish(how === 'idle' ? 'IDLE' : '-', how === 'closed' ? '' : detail);
  }

  // ---- direct ----

  #dialDirect(endpoint: Endpoint): void {
    this.record.transport = 'mtls';
    const dial = new DirectDial(this.#plane, endpoint, 'istio', {
      onSecured: ({ end, facts, peer }) => {
        this.#peer = peer;
        this.record.tls = facts;
        this.record.destination = partyOf(endpoint.workload, peer.spiffe.uri);
        this.#join(end);
      },
      onFailed: (flags, reason) => this.#next(flags, reason),
    });
    this.#giveUp = () => dial.cancel();
  }

  #dialPlain(to: Address): void {
    this.record.transport = 'plaintext';
    const { loop, config } = this.#plane;
    const dial = new Dial(loop, to, config.outbound.mark, config.limits.connectTimeoutMs, {
      onConnected: (fd) => this.#join(new SocketEnd(fd)),
      onFailed: (reason) => this.#next('CONNECT', `${to.address}:${to.port}: ${reason}`),
    });
    this.#giveUp = () => dial.cancel();
  }

  #join(end: SocketEnd | TlsEnd): void {
    this.#works();
    this.record.established();
    const { loop, config } = this.#plane;
    const fd = this.#fd;
    this.#fd = -1;
    this.#relay = new Relay(loop, new SocketEnd(fd), end, config.limits.idleTimeoutMs, {
      onEnd: (how, detail) => this.#finish(how === 'idle' ? 'IDLE' : '-', detail),
    });
  }

  // ---- life ----

  bytesForward(): number {
    return this.#stream?.bytesToPeer ?? this.#relay?.bytesForward ?? 0;
  }

  bytesBack(): number {
    return this.#stream?.bytesToApplication ?? this.#relay?.bytesBack ?? 0;
  }

  reconsider(): void {
    if (this.#over) return;
    const refusal = this.#route.kind === 'passthrough' ? this.#route.whyNot() : null;
    if (refusal !== null) {
      this.terminate('NO_ROUTE', refusal);
      return;
    }
    if (this.#peer === null) return;
    const distrust = this.#plane.tls.stillTrusted(this.#peer);
    if (distrust !== null) this.terminate(distrust === 'revoked' ? 'CERT_REVOKED' : 'IDENTITY_ERROR', distrust);
  }

  #fail(flags: Flags, reason: string): void {
    if (flags !== 'DENY') this.#plane.log('debug', 'an outbound connection failed', { flags, reason });
    this.terminate(flags, reason);
  }

  terminate(flags: Flags, detail: string): void {
    if (this.#over) return;
    const stream = this.#stream;
    const relay = this.#relay;
    this.#finish(flags, detail);
    stream?.abort(detail, ErrorCode.CANCEL);
    relay?.close('aborted', detail);
  }

  /** The one way out. */
  #finish(flags: Flags, detail: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#giveUp?.();
    this.#giveUp = null;
    if (this.#picked !== null && this.#route.kind === 'mesh') this.#route.choice.release(this.#picked);
    this.#picked = null;
    if (this.#fd >= 0) {
      resetOnClose(this.#fd);
      this.#plane.loop.close(this.#fd);
      this.#fd = -1;
    }
    this.#plane.table.delete(this);
    this.record.end(flags, detail, this.bytesForward(), this.bytesBack());
  }
}
