import type { RejectedResource, ResourceKey } from '../../mesh/resources.ts';
import type { Scope } from '../registry/scope.ts';
import type { Delta } from './delta.ts';

/** NEVER the text of a push: many sidecars may be slow to answer at once. */
interface Outstanding {
  readonly delta: Omit<Delta, 'line'>;
  readonly scope: Scope;
  readonly sentAt: number;
  readonly changedAt: number | null;
}

/** What an acknowledgement settled. */
export interface Settled {
  /** Milliseconds from the change to now, for each push that it covers; pushes that answered no change are left out. */
  readonly convergenceMs: readonly number[];
}

/** Bounds of what a peer may have us remember. */
const MAX_REASON = 512;
const MAX_REJECTED = 1_000;

/** What one sidecar was sent and has answered. Versions are acknowledged in the order they were sent: a later one covers those before it. */
export class Acknowledgements {
  readonly #maxOutstanding: number;
  readonly #outstanding = new Map<string, Outstanding>();
  readonly #rejected = new Map<ResourceKey, string>();
  #acknowledged: Scope | null = null;

  constructor(maxOutstanding: number) {
    this.#maxOutstanding = maxOutstanding;
  }

  sent(delta: Delta, scope: Scope, now: number, changedAt: number | null): void {
    this.#outstanding.delete(delta.version);
    const { version, full, upserts, removes } = delta;
    this.#outstanding.set(version, { delta: { version, full, upserts, removes }, scope, sentAt: now, changedAt });
    // One that never answers costs a bounded amount; the newest version is the one that matters.
    for (const version of this.#outstanding.keys()) {
      if (this.#outstanding.size <= this.#maxOutstanding) break;
      this.#outstanding.delete(version);
    }
  }

  /** Null: this version was not sent on this stream. */
  settle(version: string, rejected: readonly RejectedResource[], now: number): Settled | null {
    if (!this.#outstanding.has(version)) return version === this.#acknowledged?.version ? { convergenceMs: [] } : null;
    const convergenceMs: number[] = [];
    for (const [earlier, { delta, scope, changedAt }] of this.#outstanding) {
      this.#outstanding.delete(earlier);
      if (delta.full) this.#rejected.clear();
      for (const key of [...delta.upserts, ...delta.removes]) this.#rejected.delete(key);
      if (changedAt !== null) convergenceMs.push(now - changedAt);
      if (earlier !== version) continue;
      this.#acknowledged = scope;
      const concerned = new Set(delta.upserts);
      for (const { key, reason } of rejected) {
        const isConcerned = delta.full ? scope.resources.has(key) : concerned.has(key);
        if (isConcerned && this.#rejected.size < MAX_REJECTED) this.#rejected.set(key, reason.slice(0, MAX_REASON));
      }
      break;
    }
    return { convergenceMs };
  }

  /** Null until the first acknowledgement. */
  get acknowledged(): Scope | null {
    return this.#acknowledged;
  }

  get rejected(): readonly RejectedResource[] {
    return [...this.#rejected].map(([key, reason]) => ({ key, reason }));
  }

  /** When the oldest unanswered push was sent; null where all are answered. */
  get waitingSince(): number | null {
    for (const { sentAt } of this.#outstanding.values()) return sentAt;
    return null;
  }
}
