/** What an endpoint is believed to take before it has answered anything, milliseconds (linkerd's default). */
export const DEFAULT_RTT_MS = 30;
/** How long an observation counts: after it a former one weighs 1/e, milliseconds (linkerd's default). */
const DECAY_MS = 10_000;

/**
 * How long an endpoint takes to answer: an average whose past fades exponentially with time, but for a peak, which is believed at once (Finagle's
 * and linkerd's "peak EWMA"). An endpoint that slows down is avoided with the next pick, and trusted again only little by little. No clock of its own.
 */
export class PeakEwma {
  #estimate = DEFAULT_RTT_MS;
  #updatedAt: number;

  /** @param now milliseconds of a monotonic clock, as everywhere here. */
  constructor(now: number) {
    this.#updatedAt = now;
  }

  /** @param rttMs from the request's head to the response's. */
  observe(rttMs: number, now: number): void {
    const decay = this.#decay(now);
    this.#estimate = rttMs > this.#estimate ? rttMs : this.#estimate * decay + rttMs * (1 - decay);
    this.#updatedAt = Math.max(now, this.#updatedAt);
  }

  /** Milliseconds. Falls towards 0 while nothing is observed, so that an endpoint that was slow once is tried again. */
  estimate(now: number): number {
    return this.#estimate * this.#decay(now);
  }

  #decay(now: number): number {
    const elapsed = now - this.#updatedAt;
    return elapsed > 0 ? Math.exp(-elapsed / DECAY_MS) : 1;
  }
}
