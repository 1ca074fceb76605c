import type { Transport } from '../connection/record.ts';
import type { PooledConnection } from '../connection/session-pool.ts';
import type { TlsFacts } from '../native/tls-session.ts';

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
export interface Upstream extends PooledConnection {
  readonly transport: Transport;
  readonly tls: TlsFacts | null;
  /** SPIFFE ID that the endpoint has shown; null in plaintext. */
  readonly principal: string | null;
  /** Not null: the endpoint's sidecar did not take the connection. */
  readonly refusal: TunnelRefusal | null;
  /** While the endpoint's sidecar has not answered, `request` hears of a refusal; afterwards this does nothing. */
  awaitAnswer(request: AheadOfAnswer): void;
  forget(request: AheadOfAnswer): void;
}
