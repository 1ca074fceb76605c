import { setTimeout as sleep } from 'node:timers/promises';
import type { RequestInfo } from './request-info.ts';

/** One request, as the log keeps it. */
export interface LoggedRequest extends RequestInfo {
  readonly method: string;
  readonly user: string;
  readonly userAgent: string;
  readonly query: URLSearchParams;
  /** HTTP status; 0 while there is no answer. */
  status: number;
}

export type RequestPredicate = (request: LoggedRequest) => boolean;

interface Failure {
  readonly matches: RequestPredicate;
  readonly status: number;
  left: number;
}

const MAX_LOGGED = 20_000;

/** What tests do to the server to see how its clients bear it, and what its clients did. */
export class Faults {
  readonly log: LoggedRequest[] = [];
  readonly #listeners = new Set<(request: LoggedRequest) => void>();
  readonly #failures: Failure[] = [];
  #delayMs = 0;
  #resumed: PromiseWithResolvers<void> | null = null;

  get isPaused(): boolean {
    return this.#resumed !== null;
  }

  /** No request is answered, no event sent, and no connection closed, until `resume`. */
  pause(): void {
    this.#resumed ??= Promise.withResolvers<void>();
  }

  resume(): void {
    this.#resumed?.resolve();
    this.#resumed = null;
  }

  /** Each answer comes that much later. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** The next requests that match are answered with this status; 0 closes their connection without an answer. */
  failNext(matches: RequestPredicate, status: number, times = 1): void {
    this.#failures.push({ matches, status, left: times });
  }

  onRequest(listener: (request: LoggedRequest) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  record(request: LoggedRequest): void {
    if (this.log.length >= MAX_LOGGED) this.log.splice(0, MAX_LOGGED / 2);
    this.log.push(request);
    for (const listener of this.#listeners) listener(request);
  }

  /** Waits as long as the request has to; the status with which it is to fail, or null. */
  async strike(request: LoggedRequest): Promise<number | null> {
    if (this.#delayMs > 0) await sleep(this.#delayMs);
    while (this.#resumed !== null) await this.#resumed.promise;
    const failure = this.#failures.find(({ matches, left }) => left > 0 && matches(request));
    if (failure === undefined) return null;
    failure.left--;
    return failure.status;
  }
}
