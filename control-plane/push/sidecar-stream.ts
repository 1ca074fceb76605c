import type { X509Certificate } from 'node:crypto';
import type { RejectedResource } from '../../mesh/resources.ts';
import { FIXED } from '../config.ts';
import type { Lease, RegisteredWorkload } from '../registry/registrations.ts';
import type { Scope } from '../registry/scope.ts';
import type { Standing } from '../registry/workload-class.ts';
import { Acknowledgements, type Settled } from './acknowledgements.ts';
import { type Delta, lineOf } from './delta.ts';

/** The writing end of one open response. */
export interface StreamSink {
  /** False: do not write more until `drained`. */
  write(line: string): boolean;
  /** Resolves when what was written has left, or the peer is gone. */
  drained(): Promise<void>;
  /** Writes a last line and ends. */
  end(line: string): void;
  destroy(): void;
}

/** The client certificate that the stream was opened with. */
export interface StreamCertificate {
  readonly serial: string;
  readonly notAfter: number;
  /** Leaf first, as presented. */
  readonly chain: readonly X509Certificate[];
}

export interface SidecarStreamOptions {
  readonly registered: RegisteredWorkload;
  readonly lease: Lease;
  readonly certificate: StreamCertificate;
  readonly proxyVersion: string;
  readonly peerAddress: string;
  readonly sink: StreamSink;
  /** Version that the sidecar says it holds from an earlier stream; null: nothing. */
  readonly resume: string | null;
  readonly stallMs?: number;
}

/**
 * One connected sidecar.
 *
 * ALWAYS: `sent` is what the sidecar holds once it has read all that was written. At most one push is in memory for it: while that has not left,
 * nothing else is written, and the next push starts from `sent` to whatever is then the newest.
 */
export class SidecarStream {
  readonly registered: RegisteredWorkload;
  readonly lease: Lease;
  readonly certificate: StreamCertificate;
  readonly proxyVersion: string;
  readonly peerAddress: string;
  readonly resume: string | null;
  /** Unix time, milliseconds. */
  readonly connectedAt = Date.now();
  /** As last known: what the sidecar registered with, until something better is. A workload that is not known any more keeps it. */
  standing: Standing;
  readonly #sink: StreamSink;
  readonly #stallMs: number;
  readonly #acknowledgements = new Acknowledgements(FIXED.push.maxOutstanding);
  #sent: Scope | null = null;
  #version: string | null = null;
  #blocked = false;
  #closed = false;
  /** When the first change since the last push was noticed. */
  #changedAt: number | null = null;
  #overdueReported = false;

  constructor(options: SidecarStreamOptions) {
    this.registered = options.registered;
    const { namespace, labels } = options.registered.workload;
    this.standing = { namespace, labels, ended: false };
    this.lease = options.lease;
    this.certificate = options.certificate;
    this.proxyVersion = options.proxyVersion;
    this.peerAddress = options.peerAddress;
    this.#sink = options.sink;
    this.resume = options.resume;
    this.#stallMs = options.stallMs ?? FIXED.push.stallMs;
  }

  get name(): string {
    return this.lease.name;
  }

  get identity(): string {
    return this.registered.identity;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get blocked(): boolean {
    return this.#blocked;
  }

  get sent(): Scope | null {
    return this.#sent;
  }

  /** Null until the first message of this stream. */
  get version(): string | null {
    return this.#version;
  }

  get acknowledged(): Scope | null {
    return this.#acknowledgements.acknowledged;
  }

  get rejected(): readonly RejectedResource[] {
    return this.#acknowledgements.rejected;
  }

  /** PEM of the roots that it has acknowledged; none where it refused its newest trust bundle. */
  get trustedRoots(): readonly string[] {
    const bundle = this.acknowledged?.resources.get('TrustBundle/roots');
    const isRefused = this.rejected.some(({ key }) => key === 'TrustBundle/roots');
    return bundle?.kind === 'TrustBundle' && !isRefused ? bundle.roots : [];
  }

  /** Marks that something changed; of several changes before one push the first counts. */
  changed(at: number): void {
    this.#changedAt ??= at;
  }

  /** The changes since the last push do not concern this sidecar. */
  unconcerned(): void {
    this.#changedAt = null;
  }

  /**
   * Writes one delta. Resolves when it has left, or after `slowMs` where it has not: then the stream stays blocked until it has, and is destroyed
   * where that takes longer than the stall deadline.
   */
  async push(
    delta: Delta,
    scope: Scope,
    slowMs: number,
    onUnblocked: () => void,
    onStalled: () => void,
  ): Promise<void> {
    this.#acknowledgements.sent(delta, scope, performance.now(), this.#changedAt);
    this.#changedAt = null;
    this.#sent = scope;
    this.#version = delta.version;
    if (this.#sink.write(delta.line)) return;
    this.#blocked = true;
    const stall = setTimeout(() => {
      onStalled();
      this.destroy();
    }, this.#stallMs);
    const drained = this.#sink.drained().then(() => {
      clearTimeout(stall);
      this.#blocked = false;
      if (!this.#closed) onUnblocked();
    });
    let slow: NodeJS.Timeout | null = null;
    await Promise.race([
      drained,
      new Promise<void>((resolve) => {
        slow = setTimeout(resolve, slowMs);
      }),
    ]);
    if (slow !== null) clearTimeout(slow);
  }

  acknowledge(version: string, rejected: readonly RejectedResource[]): Settled | null {
    this.#overdueReported = false;
    return this.#acknowledgements.settle(version, rejected, performance.now());
  }

  /** True once for each time that an acknowledgement is missing for too long. */
  becomesOverdue(deadlineMs: number): boolean {
    const since = this.#acknowledgements.waitingSince;
    if (since === null || performance.now() - since < deadlineMs || this.#overdueReported) return false;
    this.#overdueReported = true;
    return true;
  }

  heartbeat(): void {
    if (!this.#blocked && !this.#closed) this.#sink.write(lineOf({ type: 'heartbeat' }));
  }

  goodbye(reason: string, renew: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sink.end(lineOf({ type: 'goodbye', reason, renew }));
  }

  destroy(): void {
    this.#closed = true;
    this.#sink.destroy();
  }

  /** The peer is gone: nothing is written any more. */
  gone(): void {
    this.#closed = true;
  }
}
