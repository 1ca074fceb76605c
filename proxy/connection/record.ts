import type { Decision } from '../../policy/types.ts';
import type { Address } from '../native/socket.ts';
import type { TlsFacts } from '../native/tls-session.ts';
import { timestamp } from './access-log.ts';
import type { DataPlane } from './data-plane.ts';
import { type Party, partyLabels, partyOf, type ServiceFacts } from './party.ts';
import type { SeriesSet } from './series.ts';

const UNKNOWN = 'unknown';

/** Why a connection failed, in ztunnel's words: the values of `response_flags`. */
export type Flags =
  | '-'
  | 'DENY'
  | 'CONNECT'
  | 'TLS_FAILURE'
  | 'IDENTITY_ERROR'
  | 'CERT_REVOKED'
  | 'PROTOCOL'
  | 'NO_ROUTE'
  | 'NO_HEALTHY_UPSTREAM'
  | 'IDLE'
  | 'DRAIN'
  | 'INTERNAL';

export type Transport = 'hbone' | 'mtls' | 'plaintext' | 'tls-passthrough' | 'unknown';

const TCP_METRICS = [
  'istio_tcp_connections_opened_total',
  'istio_tcp_connections_closed_total',
  'istio_tcp_received_bytes_total',
  'istio_tcp_sent_bytes_total',
] as const;

/**
 * What is known of one connection, and its only way to be told of: `established` once it carries bytes, `end` exactly once, which writes the
 * metrics and the access-log line. Byte counts are as Istio's: received = from the source, sent = back to it.
 */
export class ConnectionRecord {
  readonly #plane: DataPlane;
  readonly direction: 'inbound' | 'outbound';
  readonly #startedAt: number;
  readonly source: Party;
  /** Address of the source. */
  readonly from: Address;
  destination: Party;
  /** Address of the destination. */
  to: Address;
  service: ServiceFacts | null = null;
  originalDestination: Address | null = null;
  transport: Transport = 'unknown';
  decision: Decision | null = null;
  tls: TlsFacts | null = null;
  attempts = 0;
  /** `http`: its requests have records of their own, so it counts in no `istio_tcp_*` series and has no access-log line. Set before anything else is told. */
  protocol: 'tcp' | 'http' = 'tcp';
  #series: SeriesSet | null = null;
  #reportedForward = 0;
  #reportedBack = 0;
  #ended = false;

  constructor(
    plane: DataPlane,
    direction: 'inbound' | 'outbound',
    source: Party,
    from: Address,
    destination: Party,
    to: Address,
  ) {
    this.#plane = plane;
    this.direction = direction;
    this.source = source;
    this.from = from;
    this.destination = destination;
    this.to = to;
    this.#startedAt = plane.loop.now;
    plane.metrics.connections(direction, 1);
  }

  get ageMs(): number {
    return Math.round(this.#plane.loop.now - this.#startedAt);
  }

  established(): void {
    this.#series = this.#openSeries('-');
  }

  #openSeries(flags: Flags): SeriesSet {
    const { source: s, destination: d, service } = this;
    const security = this.transport === 'hbone' || this.transport === 'mtls' ? 'mutual_tls' : 'none';
    const key = `${this.direction}|${s.key}|${d.key}|${service?.hostname}|${security}|${flags}`;
    const labels = (): { [label: string]: string } => ({
      reporter: this.direction === 'inbound' ? 'destination' : 'source',
      ...partyLabels(s, d, service),
      request_protocol: 'tcp',
      response_flags: flags,
      // The source cannot know what the destination requires: Istio says `unknown` there.
      connection_security_policy: this.direction === 'inbound' ? security : UNKNOWN,
    });
    const series = this.#plane.series.family(key, TCP_METRICS, labels, this.#plane.loop.now);
    series.live++;
    this.#add(series, 0, 1);
    return series;
  }

  #add(series: SeriesSet, index: number, amount: number): void {
    this.#plane.series.add(series.slots[index] ?? 0, amount);
  }

  /** Adds what has been carried since the last report; the arguments are totals. */
  report(forward: number, back: number): void {
    if (this.#series === null) return;
    this.#add(this.#series, 2, forward - this.#reportedForward);
    this.#add(this.#series, 3, back - this.#reportedBack);
    this.#reportedForward = forward;
    this.#reportedBack = back;
  }

  /** @param detail why, for a person; empty after a clean end. @param forward bytes from the source; @param back bytes to it */
  end(flags: Flags, detail: string, forward: number, back: number): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.protocol === 'http') {
      this.#plane.metrics.connections(this.direction, -1);
      if (flags !== '-') this.#plane.metrics.connectionFailure(this.direction, flags);
      return;
    }
    const series = this.#series ?? this.#openSeries(flags);
    this.#series = series;
    this.report(forward, back);
    this.#add(series, 1, 1);
    series.live--;
    series.lastUsed = this.#plane.loop.now;
    this.#plane.metrics.connections(this.direction, -1);
    if (flags !== '-') this.#plane.metrics.connectionFailure(this.direction, flags);
    const { accessLog } = this.#plane.config;
    if (accessLog === 'off' || (accessLog === 'denied' && flags !== 'DENY')) return;
    this.#plane.accessLog.write(this.describe(flags, detail, forward, back));
  }

  /** The access-log line; also what the admin port shows of a live connection. */
  describe(flags: Flags, detail: string, forward: number, back: number): { readonly [key: string]: unknown } {
    const { decision } = this;
    return {
      level: 'info',
      time: timestamp(this.#plane.unixNow()),
      msg: 'access',
      direction: this.direction,
      protocol: this.protocol === 'http' ? 'http' : undefined,
      transport: this.transport,
      verdict: flags === 'DENY' ? 'denied' : flags === '-' ? 'allowed' : 'failed',
      policy: decision?.policy ?? null,
      rule: decision?.rule ?? null,
      reason: decision?.reason ?? null,
      audit: decision === null || decision.audit.length === 0 ? undefined : decision.audit,
      dryRun:
        decision === null || (decision.dryRun.allow === null && decision.dryRun.deny === null)
          ? undefined
          : decision.dryRun,
      source: place(this.source, this.from),
      destination: place(this.destination, this.to),
      service: this.service?.hostname ?? null,
      originalDestination: this.originalDestination === null ? null : text(this.originalDestination),
      bytesReceived: forward,
      bytesSent: back,
      durationMs: this.ageMs,
      tls: this.tls,
      attempts: this.direction === 'outbound' ? this.attempts : undefined,
      flags,
      detail,
    };
  }
}

const text = (at: Address): string =>
  at.address.includes(':') ? `[${at.address}]:${at.port}` : `${at.address}:${at.port}`;

function place(party: Party, at: Address): { readonly [key: string]: unknown } {
  return { address: text(at), workload: party.workload, namespace: party.namespace, principal: party.principal };
}

/** A connection that ended before it was known where it belongs: told of like every other. */
export function recordRefusal(
  plane: DataPlane,
  direction: 'inbound' | 'outbound',
  from: Address,
  target: Address,
  flags: Flags,
  reason: string,
): void {
  const stranger = partyOf(null, null);
  const [source, destination] = direction === 'outbound' ? [plane.self(), stranger] : [stranger, plane.self()];
  const record = new ConnectionRecord(plane, direction, source, from, destination, target);
  record.originalDestination = target;
  record.end(flags, reason, 0, 0);
  plane.log('info', `an ${direction} connection was refused`, { from: from.address, to: text(target), flags, reason });
}
