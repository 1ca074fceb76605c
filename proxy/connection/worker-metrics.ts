import type { SeriesBank } from './series.ts';

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

  #count(metric: string, key: string, labels: () => { readonly [label: string]: string }): void {
    const set = this.#series.family(`${metric}|${key}`, [metric], labels, this.#now());
    const [slot = 0] = set.slots;
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

  decision(policy: string, rule: string, verdict: string): void {
    this.#count('postern_policy_decisions_total', `${policy}|${rule}|${verdict}`, () => ({ policy, rule, verdict }));
  }

  dryRun(action: string, verdict: string, policy: string): void {
    this.#count('postern_dry_run_decisions_total', `${action}|${verdict}|${policy}`, () => ({
      action,
      verdict,
      policy,
    }));
  }
}
