/** Failures in a row after which an endpoint is ejected (Envoy's `consecutive_5xx`). */
export const CONSECUTIVE_FAILURES = 5;
/** How long the first time; the second twice as long, and so on; Envoy's `base_ejection_time` and `max_ejection_time`, milliseconds. */
export const BASE_EJECTION_MS = 30_000;
export const MAX_EJECTION_MS = 300_000;

/**
 * What one endpoint did lately, and how long it stays away for it. Whether it may be ejected at all is its balancer's to say: an endpoint that may
 * not goes on counting.
 */
export class OutlierHistory {
  #failures = 0;
  /** What the length of the next ejection grows by; falls with the time that the endpoint is not ejected. */
  #ejections = 0;
  /** When the ejection ends, or ended; monotonic milliseconds. */
  ejectedUntil = 0;

  succeeded(): void {
    this.#failures = 0;
  }

  /** @returns whether that was enough to eject it. */
  failed(): boolean {
    this.#failures++;
    return this.#failures >= CONSECUTIVE_FAILURES;
  }

  /** Begins an ejection: 30 s for each ejection that is remembered; one is forgotten for every 30 s without. */
  eject(now: number): void {
    const forgotten = Math.floor(Math.max(0, now - this.ejectedUntil) / BASE_EJECTION_MS);
    this.#ejections = Math.max(0, this.#ejections - forgotten) + 1;
    this.#failures = 0;
    this.ejectedUntil = now + Math.min(BASE_EJECTION_MS * this.#ejections, MAX_EJECTION_MS);
  }
}
