import { statusLabel } from './request-series-labels.ts';
import type { Labels, SeriesBank, SeriesSet } from './series.ts';
import { SeriesMemo } from './series-memo.ts';

/** Longest reason that may become a label: they come from our own code and OpenSSL's tables, never from a peer. */
const MAX_REASON = 64;

/** The worker's own `postern_*` series; names and help texts are in proxy/control/metric-definitions.ts. */
export class WorkerMetrics {
  readonly #series: SeriesBank;
  readonly #now: () => number;
  readonly #connections: { readonly inbound: number; readonly outbound: number };
  readonly #tunnels: { readonly inbound: number; readonly outbound: number };
  readonly #loopLag: number;
  readonly #acceptPaused: number;
  readonly #logDropped: number;
  readonly #internalErrors: number;
  readonly #httpRequests: { readonly inbound: number; readonly outbound: number };
  readonly #httpPool: { readonly inbound: number; readonly outbound: number };
  readonly #httpPending: number;
  readonly #httpRetries: number;
  readonly #httpEjections: number;
  readonly #spansDropped: number;
  readonly #decisions = new SeriesMemo();
  readonly #dryRuns = new SeriesMemo();

  constructor(series: SeriesBank, now: () => number) {
    this.#series = series;
    this.#now = now;
    this.#connections = {
      inbound: series.permanent('postern_connections', { direction: 'inbound' }),
      outbound: series.permanent('postern_connections', { direction: 'outbound' }),
    };
    this.#tunnels = {
      inbound: series.permanent('postern_tunnels', { direction: 'inbound' }),
      outbound: series.permanent('postern_tunnels', { direction: 'outbound' }),
    };
    this.#loopLag = series.permanent('postern_loop_lag_seconds_max');
    this.#acceptPaused = series.permanent('postern_accept_paused_total');
    this.#logDropped = series.permanent('postern_access_log_dropped_total');
    this.#internalErrors = series.permanent('postern_internal_errors_total');
    this.#httpRequests = {
      inbound: series.permanent('postern_http_requests_in_flight', { direction: 'inbound' }),
      outbound: series.permanent('postern_http_requests_in_flight', { direction: 'outbound' }),
    };
    this.#httpPool = {
      inbound: series.permanent('postern_http_pool_connections', { direction: 'inbound' }),
      outbound: series.permanent('postern_http_pool_connections', { direction: 'outbound' }),
    };
    this.#httpPending = series.permanent('postern_http_pending_requests');
    this.#httpRetries = series.permanent('postern_http_retries_total');
    this.#httpEjections = series.permanent('postern_http_ejections_total');
    this.#spansDropped = series.permanent('postern_spans_dropped_total');
  }

  connections(direction: 'inbound' | 'outbound', change: number): void {
    this.#series.add(this.#connections[direction], change);
  }

  tunnels(direction: 'inbound' | 'outbound', change: number): void {
    this.#series.add(this.#tunnels[direction], change);
  }

  loopLag(seconds: number): void {
    this.#series.set(this.#loopLag, seconds);
  }

  acceptPaused(): void {
    this.#series.add(this.#acceptPaused, 1);
  }

  accessLogDropped(): void {
    this.#series.add(this.#logDropped, 1);
  }

  internalError(): void {
    this.#series.add(this.#internalErrors, 1);
  }

  /** Requests under way. Only `RequestRecord` calls it: +1 where it is made, -1 at its end. */
  httpRequests(direction: 'inbound' | 'outbound', change: number): void {
    this.#series.add(this.#httpRequests[direction], change);
  }

  /** Pooled connections, idle or not: inbound to the application, outbound to endpoints. */
  httpPool(direction: 'inbound' | 'outbound', change: number): void {
    this.#series.add(this.#httpPool[direction], change);
  }

  /** Requests that wait for a connection. */
  httpPending(change: number): void {
    this.#series.add(this.#httpPending, change);
  }

  /** A request was sent a second time. */
  httpRetry(): void {
    this.#series.add(this.#httpRetries, 1);
  }

  /** An endpoint was ejected from balancing. */
  httpEjection(): void {
    this.#series.add(this.#httpEjections, 1);
  }

  spanDropped(): void {
    this.#series.add(this.#spansDropped, 1);
  }

  /** A request that the codec or a limit refused before anything else looked at it. */
  httpRejected(status: number): void {
    const text = String(statusLabel(status));
    this.#count('postern_http_rejected_requests_total', text, () => ({ status: text }));
  }

  /** @param reason one of a fixed set of our own words, NEVER anything of the token's */
  tokenRefused(reason: string): void {
    const short = reason.slice(0, MAX_REASON);
    this.#count('postern_tokens_refused_total', short, () => ({ reason: short }));
  }

  #count(metric: string, key: string, labels: () => Labels): void {
    this.#increment(this.#series.family(`${metric}|${key}`, [metric], labels, this.#now()));
  }

  #increment({ slots: [slot = 0] }: SeriesSet): void {
    this.#series.add(slot, 1);
  }

  handshakeFailure(direction: 'inbound' | 'outbound', reason: string): void {
    // Which identity was found is for the log; as a label it would be the peer's choice.
    const short = reason.replace(/: (expected|spiffe).*$/, '').slice(0, MAX_REASON);
    this.#count('postern_handshake_failures_total', `${direction}|${short}`, () => ({ direction, reason: short }));
  }

  connectionFailure(direction: 'inbound' | 'outbound', flags: string): void {
    this.#count('postern_connection_failures_total', `${direction}|${flags}`, () => ({ direction, flags }));
  }

  /** Called for every request: see `SeriesMemo`. */
  decision(policy: string, rule: string, verdict: string): void {
    const now = this.#now();
    let set = this.#decisions.find(policy, rule, verdict, now);
    if (set === null) {
      const key = `postern_policy_decisions_total|${policy}|${rule}|${verdict}`;
      set = this.#series.family(key, ['postern_policy_decisions_total'], () => ({ policy, rule, verdict }), now);
      this.#decisions.keep(policy, rule, verdict, set);
    }
    this.#increment(set);
  }

  dryRun(action: string, verdict: string, policy: string): void {
    const now = this.#now();
    let set = this.#dryRuns.find(action, verdict, policy, now);
    if (set === null) {
      const key = `postern_dry_run_decisions_total|${action}|${verdict}|${policy}`;
      set = this.#series.family(key, ['postern_dry_run_decisions_total'], () => ({ action, verdict, policy }), now);
      this.#dryRuns.keep(action, verdict, policy, set);
    }
    this.#increment(set);
  }
}
