import type { Logger } from 'pino';
import { Backoff } from '../../../mesh/backoff.ts';
import { messageOf } from '../../../mesh/errors.ts';
import { WorkQueue } from '../../work-queue.ts';

export interface ReconcilerOptions {
  /** What it does, as the log says it: `publishing the trust bundle`. */
  readonly what: string;
  /** Makes the API agree with what is wanted for `key`; does nothing where it does already. Aborted with the term. */
  readonly reconcile: (key: string, signal: AbortSignal) => Promise<void>;
  readonly log: Pick<Logger, 'warn' | 'error'>;
}

/** Keys at a time. */
const CONCURRENCY = 4;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 60_000;
/** Failures of one key that are each logged; after that every tenth. */
const LOGGED_FAILURES = 3;

/**
 * Writes of the leader, by key: each key is reconciled when something about it may have changed, and again after a failure, later each time.
 *
 * ALWAYS: outside a term nothing is written, and keys that are added are only remembered: the next term begins with all of them.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #queue: WorkQueue<string>;
  /** Everything ever asked for and not forgotten. */
  readonly #keys = new Set<string>();
  readonly #retries = new Map<string, { readonly backoff: Backoff; failures: number; timer: NodeJS.Timeout | null }>();
  #term: AbortSignal | null = null;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#queue = new WorkQueue(CONCURRENCY, (key) => this.#work(key));
  }

  /** Something about `key` may have changed. */
  add(key: string): void {
    this.#keys.add(key);
    if (this.#term !== null) this.#queue.add(key);
  }

  /** There is nothing to do for `key` any more. */
  forget(key: string): void {
    this.#keys.delete(key);
    this.#queue.delete(key);
    this.#settle(key);
  }

  addAll(): void {
    for (const key of this.#keys) this.add(key);
  }

  /** Begins to write: everything is looked at once. Ends when `term` aborts. */
  lead(term: AbortSignal): void {
    this.#term = term;
    term.addEventListener('abort', () => this.#rest(term), { once: true });
    this.addAll();
  }

  #rest(term: AbortSignal): void {
    if (this.#term !== term) return;
    this.#term = null;
    for (const key of this.#keys) this.#queue.delete(key);
    for (const key of [...this.#retries.keys()]) this.#settle(key);
  }

  async #work(key: string): Promise<void> {
    const term = this.#term;
    if (term === null || term.aborted || !this.#keys.has(key)) return;
    try {
      await this.#options.reconcile(key, term);
      this.#settle(key);
    } catch (error) {
      if (!term.aborted) this.#failed(key, error);
    }
  }

  #failed(key: string, error: unknown): void {
    const retry = this.#retries.get(key) ?? {
      backoff: new Backoff({ initialMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS, random: Math.random }),
      failures: 0,
      timer: null,
    };
    this.#retries.set(key, retry);
    retry.failures += 1;
    const delayMs = retry.backoff.next();
    if (retry.failures <= LOGGED_FAILURES || retry.failures % 10 === 0) {
      const { what, log } = this.#options;
      log.warn(
        { key, failures: retry.failures, retryInMs: Math.round(delayMs) },
        `${what} failed: ${messageOf(error)}`,
      );
    }
    if (retry.timer !== null) clearTimeout(retry.timer);
    retry.timer = setTimeout(() => {
      retry.timer = null;
      if (this.#keys.has(key)) this.add(key);
    }, delayMs);
    retry.timer.unref();
  }

  #settle(key: string): void {
    const retry = this.#retries.get(key);
    if (retry === undefined) return;
    if (retry.timer !== null) clearTimeout(retry.timer);
    this.#retries.delete(key);
  }
}
