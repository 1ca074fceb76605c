import type { Flags, Transport } from '../connection/record.ts';
import type { ClientSession } from '../http/exchange.ts';
import type { TlsFacts } from '../native/tls-session.ts';

/** The versions that pools keep apart: a request is sent on in the version that it came in. */
export type UpstreamVersion = 'http/1' | 'h2';

/** Why an endpoint could not be connected. */
export interface ConnectFailure {
  readonly flags: Flags;
  /** For a person. */
  readonly reason: string;
}

/** The other sidecar did not take a connection. */
export interface TunnelRefusal {
  /** Of its answer to CONNECT; 0: there was none. */
  readonly status: number;
  /** Nothing of what was sent ahead of the answer has been processed; false: perhaps it has. */
  readonly certain: boolean;
  /** For a person. */
  readonly reason: string;
}

/** A request that was sent ahead of the answer to CONNECT. */
export interface AheadOfAnswer {
  /** Called once, before the session tells that its connection has ended. */
  onRefused(refusal: TunnelRefusal): void;
}

/** A connection to an endpoint over which requests are sent. */
export interface Upstream {
  readonly session: ClientSession;
  readonly transport: Transport;
  readonly tls: TlsFacts | null;
  /** SPIFFE ID that the endpoint has shown; null in plaintext. */
  readonly principal: string | null;
  /** Requests begun on it so far. */
  served: number;
  /** Not null: the endpoint's sidecar did not take the connection. */
  readonly refusal: TunnelRefusal | null;
  /** While the endpoint's sidecar has not answered, `request` hears of a refusal; afterwards this does nothing. */
  awaitAnswer(request: AheadOfAnswer): void;
  forget(request: AheadOfAnswer): void;
}

/** Whoever keeps upstreams. */
export interface UpstreamOwner {
  /** Connected: its `session` is there. May come from within `open`. */
  onOpen(upstream: UpstreamConnector): void;
  /** It could not be connected; nothing else comes. NEVER from within `open`. */
  onConnectFailed(upstream: UpstreamConnector, failure: ConnectFailure): void;
  /** A request has ended, or the endpoint allows more. */
  onRoom(upstream: UpstreamConnector): void;
  /** After `onOpen`, once: it is gone. */
  onGone(upstream: UpstreamConnector, detail: string): void;
}

/** An upstream from its making to its end. */
export interface UpstreamConnector extends Upstream {
  /** The pool's mark: it stands among those that have room. */
  ready: boolean;
  /**
   * It may wait for its first request. False where the other side looks at the first bytes to find out what they are, and stops waiting for them: what
   * comes too late would not be taken for HTTP.
   */
  readonly keepsUnused: boolean;
  open(): void;
  /** Why it must take no new requests (it was refused, our certificate or our trust changed since it was made, its tunnel drains); null where it may. */
  outdated(): string | null;
  /** Why it must end now: its peer is not trusted any more; null where it may go on. */
  distrusted(): string | null;
  /** Gives up where it is not open yet, else ends it at once. No event follows the former. */
  close(detail: string): void;
}
