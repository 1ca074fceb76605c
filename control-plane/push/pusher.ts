import type { Logger } from 'pino';
import type { AckRequest } from '../../mesh/push.ts';
import { LIMITS } from '../../mesh/push.ts';
import type { ResourceKey } from '../../mesh/resources.ts';
import { ApiError } from '../api-error.ts';
import { FIXED } from '../config.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import { digestOf, type Scope, ScopeCache } from '../registry/scope.ts';
import type { Snapshot } from '../registry/snapshot.ts';
import { workloadClass } from '../registry/workload-class.ts';
import { WorkQueue } from '../work-queue.ts';
import { confirmation, type Delta, DeltaCache, deltaBetween, fullDelta } from './delta.ts';
import { type Enforcement, enforcementOf } from './enforcement.ts';
import { RecentScopes } from './recent-scopes.ts';
import type { SidecarStream } from './sidecar-stream.ts';

export type CloseReason =
  | 'peer'
  | 'superseded'
  | 'expired'
  | 'aged'
  | 'revoked'
  | 'untrusted'
  | 'stalled'
  | 'failed'
  | 'shutdown';

export interface PusherOptions {
  /** Tells this run of the control plane from every other. */
  readonly epoch: string;
  readonly metrics: ControlPlaneMetrics;
  readonly log: Logger;
  /** The stream is over, whatever ended it; called once for each. */
  readonly onClosed: (stream: SidecarStream, reason: CloseReason) => void;
  readonly heartbeatMs?: number;
  /** How old a stream gets, about; milliseconds. */
  readonly streamAgeMs?: number;
}

/** What a sidecar refused when its stream ended; sent again when it resumes. */
interface Departed {
  readonly identity: string;
  readonly rejected: ReadonlySet<ResourceKey>;
}

const MAX_DEPARTED = 10_000;

/**
 * Brings every connected sidecar to the newest snapshot.
 *
 * ALWAYS: one stream a workload name, the latest. A stream that is blocked is left alone until it is not, then gets one delta to the newest state.
 */
export class Pusher {
  readonly #options: PusherOptions;
  readonly #streams = new Map<string, SidecarStream>();
  readonly #expiries = new Map<SidecarStream, NodeJS.Timeout>();
  readonly #queue = new WorkQueue<SidecarStream>(FIXED.push.concurrency, (stream) => this.#pushOrClose(stream));
  readonly #scopes: ScopeCache;
  readonly #deltas = new DeltaCache();
  readonly #recent = new RecentScopes(FIXED.push.resumeEntries, FIXED.push.resumeMs);
  readonly #departed = new Map<string, Departed>();
  readonly #heartbeat: NodeJS.Timeout;
  #snapshot: Snapshot | null = null;

  constructor(options: PusherOptions) {
    this.#options = options;
    this.#scopes = new ScopeCache(options.epoch);
    this.#heartbeat = setInterval(() => this.#beat(), options.heartbeatMs ?? LIMITS.heartbeatMs);
    this.#heartbeat.unref();
  }

  get streams(): readonly SidecarStream[] {
    return [...this.#streams.values()];
  }

  countOf(identity: string): number {
    let count = 0;
    for (const stream of this.#streams.values()) if (stream.identity === identity) count += 1;
    return count;
  }

  publish(snapshot: Snapshot, changedAt: number): void {
    this.#snapshot = snapshot;
    for (const stream of this.#streams.values()) {
      stream.changed(changedAt);
      this.#queue.add(stream);
    }
  }

  /** Takes a stream on. Its first push comes now, or (`waitForNext`) with the next snapshot, which its own registration is about to make. */
  open(stream: SidecarStream, waitForNext: boolean): void {
    const before = this.#streams.get(stream.name);
    if (before !== undefined) this.close(before, 'superseded');
    this.#streams.set(stream.name, stream);
    this.#options.metrics.connected.set(this.#streams.size);
    this.#endInTime(stream);
    if (!waitForNext) this.#queue.add(stream);
  }

  close(stream: SidecarStream, reason: CloseReason): void {
    if (this.#streams.get(stream.name) !== stream) return;
    this.#streams.delete(stream.name);
    this.#queue.delete(stream);
    clearTimeout(this.#expiries.get(stream));
    this.#expiries.delete(stream);
    if (stream.sent !== null) this.#recent.remember(stream.sent);
    this.#rememberRejected(stream);
    this.#options.metrics.connected.set(this.#streams.size);
    this.#options.metrics.streamsClosed.inc({ reason });
    if (reason === 'peer') stream.gone();
    else if (reason === 'stalled' || reason === 'failed') stream.destroy();
    else stream.goodbye(GOODBYES[reason], reason === 'expired' || reason === 'untrusted');
    this.#options.onClosed(stream, reason);
  }

  /** @throws ApiError 404 where no such stream or version is known, 403 where the stream is another identity's. */
  acknowledge(name: string, identity: string, { version, rejected }: AckRequest): void {
    const { metrics, log } = this.#options;
    const stream = this.#streams.get(name);
    if (stream === undefined) throw new ApiError(404, 'no-stream', `no stream is open for the workload ${name}`);
    if (stream.identity !== identity) {
      throw new ApiError(403, 'identity-mismatch', `the stream of ${name} was opened by another identity`);
    }
    const settled = stream.acknowledge(version, rejected);
    if (settled === null) throw new ApiError(404, 'unknown-version', 'this version was not sent on the open stream');
    for (const convergenceMs of settled.convergenceMs) metrics.convergence.observe(convergenceMs / 1000);
    this.#countRejected();
    if (rejected.length === 0) return;
    metrics.rejections.inc(rejected.length);
    log.warn(
      { workload: name, version, rejected: stream.rejected.slice(0, 20) },
      'a sidecar refused resources; it keeps the last good ones',
    );
  }

  /**
   * Waits until every connected sidecar has acknowledged a trust bundle that holds all these roots, or `signal` aborts.
   * `missing` are those that have not.
   */
  async awaitTrust(
    roots: readonly string[],
    signal: AbortSignal,
  ): Promise<{ readonly connected: number; readonly missing: readonly string[] }> {
    for (;;) {
      const missing = this.streams.filter((stream) => !trusts(stream, roots)).map(({ name }) => name);
      if (missing.length === 0 || signal.aborted) return { connected: this.#streams.size, missing };
      await new Promise((resolve) => setTimeout(resolve, TRUST_POLL_MS));
    }
  }

  /** How far the connected sidecars are, by policy. Empty before the first snapshot. */
  enforcement(): ReadonlyMap<ResourceKey, Enforcement> {
    const snapshot = this.#snapshot;
    if (snapshot === null) return new Map();
    const holders = this.streams.map((stream) => {
      const { acknowledged, rejected } = stream;
      return { wanted: this.#scopeOf(snapshot, stream), acknowledged, rejected };
    });
    return enforcementOf(snapshot, holders);
  }

  stop(): void {
    clearInterval(this.#heartbeat);
    for (const stream of this.streams) this.close(stream, 'shutdown');
  }

  /** A fault of ours with one sidecar must not become the others'. */
  async #pushOrClose(stream: SidecarStream): Promise<void> {
    try {
      await this.#push(stream);
    } catch (error) {
      this.#options.log.error({ err: error, workload: stream.name }, 'a push failed: the sidecar is disconnected');
      this.close(stream, 'failed');
    }
  }

  async #push(stream: SidecarStream): Promise<void> {
    if (this.#snapshot === null || stream.closed || stream.blocked) return;
    const end = this.#options.metrics.pushDuration.startTimer();
    const scope = this.#scopeOf(this.#snapshot, stream);
    const delta = stream.sent === null ? this.#firstDelta(stream, scope) : this.#deltas.between(stream.sent, scope);
    if (stream.sent !== null && isSame(delta)) {
      stream.unconcerned();
      return;
    }
    if (this.#isTooLong(stream, delta)) return;
    this.#options.metrics.pushes.inc({ kind: delta.full ? 'full' : isSame(delta) ? 'confirmation' : 'delta' });
    this.#recent.remember(scope);
    await stream.push(
      delta,
      scope,
      FIXED.push.slowWriteMs,
      () => this.#queue.add(stream),
      () => {
        this.#options.log.warn(
          { workload: stream.name, identity: stream.identity },
          'a sidecar does not read its stream: disconnected',
        );
        this.close(stream, 'stalled');
      },
    );
    end();
  }

  /**
   * By what is known of the workload in this snapshot: labels of a pod or of a machine's entry may change under an open stream. The snapshot may still
   * have an earlier pod of that name, whose labels and end are not this one's.
   */
  #scopeOf(snapshot: Snapshot, stream: SidecarStream): Scope {
    const pod = snapshot.pods.get(stream.name);
    const { isDeclared = false, podUid } = stream.registered;
    const isMachine = isDeclared && podUid === undefined;
    const entry = isMachine ? snapshot.entries.get(stream.name) : undefined;
    if (entry !== undefined) stream.standing = entry;
    else if (!isMachine && pod !== undefined && (podUid === undefined || podUid === pod.uid)) stream.standing = pod;
    return this.#scopes.scopeOf(snapshot, stream.standing);
  }

  /** What brings a new stream up to date: the least that its earlier state allows, else everything. */
  #firstDelta(stream: SidecarStream, scope: Scope): Delta {
    const departed = this.#departed.get(stream.name);
    this.#departed.delete(stream.name);
    if (stream.resume === null) return fullDelta(scope);
    const again = departed?.identity === stream.identity ? departed.rejected : new Set<ResourceKey>();
    const from = this.#recent.find(stream.resume, workloadClass(stream.standing));
    if (from !== null) return deltaBetween(from, scope, again);
    // Sent by an earlier run of the control plane, perhaps; what has the same digest is the same.
    return digestOf(stream.resume) === digestOf(scope.version) ? confirmation(scope) : fullDelta(scope);
  }

  #isTooLong(stream: SidecarStream, delta: Delta): boolean {
    // A UTF-16 unit is at most three bytes of UTF-8: the exact count is needed only near the limit.
    if (delta.line.length * 3 <= LIMITS.lineBytes || Buffer.byteLength(delta.line) <= LIMITS.lineBytes) return false;
    this.#options.log.error(
      { workload: stream.name, limitBytes: LIMITS.lineBytes },
      'a push is larger than a sidecar takes: it keeps what it has; narrow services with networking.istio.io/exportTo',
    );
    return true;
  }

  /** A stream ends with its certificate; or earlier, so that sidecars spread over the replicas of the control plane again. */
  #endInTime(stream: SidecarStream): void {
    const { streamAgeMs, streamAgeSpread } = FIXED.push;
    const left = Math.max(0, stream.certificate.notAfter - Date.now());
    const age =
      (this.#options.streamAgeMs ?? streamAgeMs) * (1 - streamAgeSpread + 2 * streamAgeSpread * Math.random());
    const reason = left < age ? 'expired' : 'aged';
    this.#expiries.set(
      stream,
      setTimeout(() => this.close(stream, reason), Math.min(left, age)),
    );
  }

  #rememberRejected(stream: SidecarStream): void {
    this.#departed.delete(stream.name);
    const rejected = new Set(stream.rejected.map(({ key }) => key));
    if (rejected.size > 0) this.#departed.set(stream.name, { identity: stream.identity, rejected });
    for (const name of this.#departed.keys()) {
      if (this.#departed.size <= MAX_DEPARTED) break;
      this.#departed.delete(name);
    }
    this.#countRejected();
  }

  #countRejected(): void {
    let count = 0;
    for (const stream of this.#streams.values()) count += stream.rejected.length;
    this.#options.metrics.rejected.set(count);
  }

  #beat(): void {
    for (const stream of this.#streams.values()) {
      stream.heartbeat();
      if (!stream.becomesOverdue(FIXED.push.ackDeadlineMs)) continue;
      this.#options.metrics.acksOverdue.inc();
      this.#options.log.warn(
        { workload: stream.name, version: stream.version },
        'a sidecar has not acknowledged its last push',
      );
    }
  }
}

const GOODBYES: { readonly [R in Exclude<CloseReason, 'peer' | 'stalled' | 'failed'>]: string } = {
  superseded: 'another stream was opened for this workload',
  expired: 'the client certificate has expired',
  aged: 'the stream is old: connect again, to any replica of the control plane',
  revoked: 'the identity or certificate is revoked',
  untrusted: 'the client certificate does not chain to a trusted root any more',
  shutdown: 'the control plane is stopping',
};

const TRUST_POLL_MS = 50;

function trusts({ trustedRoots }: SidecarStream, roots: readonly string[]): boolean {
  return roots.every((root) => trustedRoots.includes(root));
}

function isSame({ full, upserts, removes }: Delta): boolean {
  return !full && upserts.length === 0 && removes.length === 0;
}
