import type { DataPlane } from '../connection/data-plane.ts';
import type { DirectAlpn } from '../connection/mesh-tls.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import type { Flags } from '../connection/record.ts';
import type { TlsFacts, TlsSession } from '../native/tls-session.ts';
import type { Endpoint } from '../protocol/destinations.ts';
import { Dial } from '../reactor/dial.ts';
import { TlsEnd } from '../reactor/ends.ts';
import { TlsHandshake } from '../reactor/tls-handshake.ts';

/** A mutual TLS connection to an Istio sidecar whose identity has been checked. */
export interface Secured {
  /** The caller's: join or release it; its descriptor is watched. */
  readonly end: TlsEnd;
  readonly facts: TlsFacts;
  readonly peer: PeerIdentity;
  /** `MeshTls.generation` of its handshake. */
  readonly generation: number;
}

export interface DirectDialEvents {
  onSecured(secured: Secured): void;
  /** Everything was given back. */
  onFailed(flags: Flags, reason: string): void;
}

/**
 * Connects an endpoint of an Istio sidecar by direct mutual TLS. ALWAYS: whoever is at the other end has shown the identity that the registry expects.
 * Exactly one event comes, later than the constructor, unless `cancel` comes first.
 */
export class DirectDial {
  readonly #plane: DataPlane;
  readonly #endpoint: Endpoint;
  readonly #alpn: DirectAlpn;
  readonly #events: DirectDialEvents;
  #step: { cancel(): void };

  constructor(plane: DataPlane, endpoint: Endpoint, alpn: DirectAlpn, events: DirectDialEvents) {
    this.#plane = plane;
    this.#endpoint = endpoint;
    this.#alpn = alpn;
    this.#events = events;
    const { loop, config } = plane;
    this.#step = new Dial(loop, endpoint, config.outbound.mark, config.limits.connectTimeoutMs, {
      onConnected: (fd) => this.#handshake(fd),
      onFailed: (reason) => this.#fail('CONNECT', reason),
    });
  }

  #fail(flags: Flags, reason: string): void {
    this.#events.onFailed(flags, `${this.#endpoint.address}:${this.#endpoint.port}: ${reason}`);
  }

  #handshake(fd: number): void {
    const { loop, tls, config, metrics } = this.#plane;
    const context = tls.directClient(this.#alpn);
    if (context === null) {
      loop.close(fd);
      this.#events.onFailed('TLS_FAILURE', 'no certificate yet');
      return;
    }
    const { generation } = tls;
    this.#step = new TlsHandshake(loop, fd, context, 'client', config.limits.handshakeTimeoutMs, {
      onFailed: (reason) => {
        metrics.handshakeFailure('outbound', reason);
        this.#fail('TLS_FAILURE', reason);
      },
      onSecured: (secured, session) => this.#check(secured, session, generation),
    });
  }

  #check(fd: number, tls: TlsSession, generation: number): void {
    const { identity } = this.#endpoint.workload;
    // The registry gives every workload that is reached by mutual TLS an identity; one without must not be anybody's.
    const check =
      identity === null
        ? ({ ok: false, reason: 'the registry expects no identity' } as const)
        : this.#plane.tls.checkPeer(tls, identity, generation);
    if (check.ok) {
      this.#events.onSecured({ end: new TlsEnd(fd, tls), facts: tls.facts(), peer: check.peer, generation });
      return;
    }
    tls.free();
    this.#plane.loop.close(fd);
    this.#plane.metrics.handshakeFailure('outbound', check.reason);
    this.#fail('IDENTITY_ERROR', check.reason);
  }

  cancel(): void {
    this.#step.cancel();
  }
}
