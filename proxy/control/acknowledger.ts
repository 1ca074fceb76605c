import { Backoff } from '../../mesh/backoff.ts';
import { messageOf } from '../../mesh/errors.ts';
import type { AckRequest } from '../../mesh/push.ts';
import { type Clock, pause } from './clock.ts';
import type { Log } from './logging.ts';

export interface AcknowledgerOptions {
  readonly send: (ack: AckRequest, signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** After this many failures in a row an acknowledgement is let go; what it would have said shows again at the next full push. */
const ATTEMPTS = 5;
const MAX_WAITING = 32;
/** The control plane takes no more rejections, and no longer reasons, than these. */
const MAX_REJECTED = 1000;
const MAX_REASON = 512;

/**
 * Tells the control plane what is in force: every version in its order, one at a time, because each acknowledgement speaks for the resources of its
 * own version. Where the control plane cannot be reached for long, the oldest are let go.
 */
export class Acknowledger {
  readonly #options: AcknowledgerOptions;
  readonly #stop = new AbortController();
  readonly #waiting: AckRequest[] = [];
  #busy = false;

  constructor(options: AcknowledgerOptions) {
    this.#options = options;
  }

  acknowledge({ workload, version, rejected }: AckRequest): void {
    const bounded = rejected
      .slice(0, MAX_REJECTED)
      .map(({ key, reason }) => ({ key, reason: reason.slice(0, MAX_REASON) }));
    this.#waiting.push({ workload, version, rejected: bounded });
    if (this.#waiting.length > MAX_WAITING) this.#waiting.shift();
    if (!this.#busy) void this.#work();
  }

  close(): void {
    this.#stop.abort();
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop;
    this.#busy = true;
    while (!signal.aborted) {
      const ack = this.#waiting.shift();
      if (ack === undefined) break;
      await this.#deliver(ack, signal);
    }
    this.#busy = false;
  }

  /** Never rejects. */
  async #deliver(ack: AckRequest, signal: AbortSignal): Promise<void> {
    const { send, clock, log } = this.#options;
    const backoff = new Backoff({ initialMs: 100, maxMs: 5000, random: clock.random });
    for (let attempt = 1; attempt <= ATTEMPTS && !signal.aborted; attempt += 1) {
      try {
        await send(ack, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        log.debug({ version: ack.version, attempt }, `acknowledgement not delivered: ${messageOf(error)}`);
        await pause(clock, backoff.next(), signal);
      }
    }
  }
}
