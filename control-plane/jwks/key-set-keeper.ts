import type { Logger } from 'pino';
import { messageOf } from '../../mesh/errors.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import type { FetchedKeySet } from './fetch-key-set.ts';
import type { KeySetFile, StoredKeySet } from './key-set-file.ts';
import type { WantedSource } from './wanted-sources.ts';

/** Milliseconds. */
export interface KeySetRhythm {
  /** From a success to the next fetch. */
  readonly refreshMs: number;
  /** From a failure to the next attempt: doubling from the first to the longest. */
  readonly firstRetryMs: number;
  readonly retryMs: number;
  /** How long keys are believed that cannot be fetched any more. */
  readonly keepMs: number;
}

export interface KeySetKeeperOptions {
  /** Gives up when the signal says so. */
  readonly fetch: (wanted: WantedSource, signal: AbortSignal) => Promise<FetchedKeySet>;
  readonly rhythm: KeySetRhythm;
  /** Fetches at a time. */
  readonly concurrency: number;
  /** More are not fetched: their tokens are refused. */
  readonly maxSources: number;
  /** Of which so many for one namespace: whoever names many must not take them from others. */
  readonly maxSourcesOfOne: number;
  readonly file: Pick<KeySetFile, 'load' | 'save'>;
  /** What `texts` gives has changed. */
  readonly onChange: () => void;
  readonly metrics: Pick<ControlPlaneMetrics, 'jwksFetches' | 'jwksKeySets' | 'storageErrors'>;
  readonly log: Logger;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
}

/** One source that is wanted. */
interface Kept {
  wanted: WantedSource;
  /** Null until the first success, and after `keepMs` without one. */
  stored: StoredKeySet | null;
  /** In a row. */
  failures: number;
  /** Of the last failure, so that the same one is said once. */
  complaint: string;
  timer: NodeJS.Timeout | null;
}

interface Due {
  readonly name: string;
  readonly kept: Kept;
}

/** How old the time of a success in the file may become: it is what counts after a restart. */
const SAVE_EVERY_MS = 24 * 3600_000;

/**
 * Fetches the keys of issuers and keeps them fresh. ALWAYS: what was fetched once stays until it is replaced, is not wanted any more, or could not
 * be fetched for `keepMs`; a source without keys is null, never absent.
 */
export class KeySetKeeper {
  readonly #options: KeySetKeeperOptions;
  readonly #kept = new Map<string, Kept>();
  /** Those that wait for their turn; each at most once, since it is its own fetch that sets its next. */
  readonly #due: Due[] = [];
  /** What is being fetched, and for which namespace. */
  readonly #fetching = new Map<Kept, string>();
  #remembered: ReadonlyMap<string, StoredKeySet>;
  #savedAt = 0;
  readonly #stop = new AbortController();

  constructor(options: KeySetKeeperOptions) {
    this.#options = options;
    this.#remembered = options.file.load();
  }

  /** By name of the Jwks resource. */
  texts(): ReadonlyMap<string, string | null> {
    return new Map([...this.#kept].map(([name, { stored }]) => [name, stored?.text ?? null]));
  }

  /** What is needed from now on; the rest is forgotten. */
  want(sources: ReadonlyMap<string, WantedSource>): void {
    const { log, maxSources, maxSourcesOfOne } = this.#options;
    const shares = new Shares(maxSourcesOfOne);
    for (const [name, kept] of this.#kept) {
      const wanted = sources.get(name);
      if (wanted !== undefined && isSame(kept.wanted, wanted) && shares.take(wanted.namespaces)) {
        kept.wanted = wanted;
        continue;
      }
      if (kept.timer !== null) clearTimeout(kept.timer);
      this.#kept.delete(name);
    }
    let tooMany = 0;
    for (const [name, wanted] of sources) {
      if (this.#kept.has(name)) continue;
      if (this.#kept.size < maxSources && shares.take(wanted.namespaces)) this.#begin(name, wanted);
      else tooMany++;
    }
    if (tooMany > 0) {
      const bound = `more than ${maxSources} sources of keys are named, or more than ${maxSourcesOfOne} by one namespace`;
      log.error({ tooMany }, `${bound}: the tokens of the rest are refused`);
    }
    // Only for those that were wanted at the start.
    this.#remembered = new Map();
    this.#count();
  }

  stop(): void {
    this.#stop.abort();
    for (const { timer } of this.#kept.values()) if (timer !== null) clearTimeout(timer);
    this.#kept.clear();
  }

  #begin(name: string, wanted: WantedSource): void {
    const remembered = this.#remembered.get(name);
    const stored = remembered !== undefined && this.#isFresh(remembered) ? remembered : null;
    const kept: Kept = { wanted, stored, failures: 0, complaint: '', timer: null };
    this.#kept.set(name, kept);
    this.#enqueue(name, kept);
  }

  #enqueue(name: string, kept: Kept): void {
    this.#due.push({ name, kept });
    this.#pump();
  }

  #pump(): void {
    while (this.#fetching.size < this.#options.concurrency) {
      const next = this.#takeDue();
      if (next === null) return;
      const { name, kept, namespace } = next;
      if (this.#kept.get(name) !== kept) continue;
      this.#fetching.set(kept, namespace);
      this.#fetch(name, kept).then(
        () => this.#done(kept),
        (error: unknown) => {
          this.#options.log.error({ err: error }, 'internal error while fetching keys');
          this.#done(kept);
        },
      );
    }
  }

  /** Of those for whose namespace the least is being fetched the one that waits longest: slow servers of one namespace hold up its own keys. */
  #takeDue(): (Due & { readonly namespace: string }) | null {
    const fetches = new Map<string, number>();
    for (const namespace of this.#fetching.values()) fetches.set(namespace, (fetches.get(namespace) ?? 0) + 1);
    let best = { index: 0, namespace: '', count: Number.POSITIVE_INFINITY };
    for (const [index, { kept }] of this.#due.entries()) {
      for (const namespace of kept.wanted.namespaces) {
        const count = fetches.get(namespace) ?? 0;
        if (count < best.count) best = { index, namespace, count };
      }
    }
    const [due] = this.#due.splice(best.index, 1);
    return due === undefined ? null : { ...due, namespace: best.namespace };
  }

  #done(kept: Kept): void {
    this.#fetching.delete(kept);
    if (!this.#stop.signal.aborted) this.#pump();
  }

  async #fetch(name: string, kept: Kept): Promise<void> {
    const { fetch, metrics, rhythm } = this.#options;
    try {
      const fetched = await fetch(kept.wanted, this.#stop.signal);
      // It may have been forgotten meanwhile, and be wanted anew by another entry.
      if (this.#kept.get(name) !== kept) return;
      metrics.jwksFetches.inc({ result: 'success' });
      this.#succeeded(name, kept, fetched);
    } catch (error) {
      if (this.#kept.get(name) !== kept) return;
      metrics.jwksFetches.inc({ result: 'failure' });
      this.#failed(name, kept, messageOf(error));
    }
    const { failures } = kept;
    const delay =
      failures === 0 ? rhythm.refreshMs : Math.min(rhythm.firstRetryMs * 2 ** (failures - 1), rhythm.retryMs);
    kept.timer = setTimeout(() => this.#enqueue(name, kept), delay);
    this.#count();
  }

  #succeeded(name: string, kept: Kept, { text, ignored }: FetchedKeySet): void {
    const { log, clock, onChange } = this.#options;
    const changed = kept.stored?.text !== text;
    if (kept.failures > 0) log.info({ jwks: name }, 'the keys of an issuer can be fetched again');
    if (changed) log.info({ jwks: name, ignored: ignored.slice(0, 10) }, 'the keys of an issuer are new');
    kept.stored = { text, fetchedAt: clock() };
    kept.failures = 0;
    kept.complaint = '';
    if (changed || clock() - this.#savedAt > SAVE_EVERY_MS) this.#save();
    if (changed) onChange();
  }

  #failed(name: string, kept: Kept, reason: string): void {
    const { log, onChange } = this.#options;
    kept.failures++;
    const expired = kept.stored !== null && !this.#isFresh(kept.stored);
    if (expired) kept.stored = null;
    if (reason !== kept.complaint || expired) {
      const effect =
        kept.stored === null
          ? 'every token of its issuer is refused until they can be'
          : 'those fetched before stay in force';
      log.error({ jwks: name }, `the keys of an issuer could not be fetched: ${reason}; ${effect}`);
    }
    kept.complaint = reason;
    if (expired) onChange();
  }

  #isFresh({ fetchedAt }: StoredKeySet): boolean {
    return this.#options.clock() - fetchedAt <= this.#options.rhythm.keepMs;
  }

  #save(): void {
    const stored = [...this.#kept].flatMap(([name, kept]): [string, StoredKeySet][] =>
      kept.stored === null ? [] : [[name, kept.stored]],
    );
    try {
      this.#options.file.save(new Map(stored));
      this.#savedAt = this.#options.clock();
    } catch (error) {
      this.#options.metrics.storageErrors.inc();
      this.#options.log.error(
        `the keys of issuers could not be saved; they are in force all the same: ${messageOf(error)}`,
      );
    }
  }

  #count(): void {
    const { jwksKeySets } = this.#options.metrics;
    const all = [...this.#kept.values()];
    const missing = all.filter(({ stored }) => stored === null).length;
    const stale = all.filter(({ stored, failures }) => stored !== null && failures > 0).length;
    jwksKeySets.set({ state: 'missing' }, missing);
    jwksKeySets.set({ state: 'stale' }, stale);
    jwksKeySets.set({ state: 'current' }, all.length - missing - stale);
  }
}

/** Whether the keys are asked for in the same way: by URI, or by discovery for an issuer. */
function isSame({ source }: WantedSource, other: WantedSource): boolean {
  return JSON.stringify(source) === JSON.stringify(other.source);
}

/** What namespaces have taken of something of which each has a share. */
class Shares {
  readonly #each: number;
  readonly #taken = new Map<string, number>();

  constructor(each: number) {
    this.#each = each;
  }

  /** For the first of these namespaces that has any left. Whether one had. */
  take(namespaces: readonly string[]): boolean {
    const payer = namespaces.find((namespace) => (this.#taken.get(namespace) ?? 0) < this.#each);
    if (payer === undefined) return false;
    this.#taken.set(payer, (this.#taken.get(payer) ?? 0) + 1);
    return true;
  }
}
