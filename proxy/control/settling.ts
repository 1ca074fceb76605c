import { collectAllGarbage } from '../../mesh/heap.ts';
import type { Clock } from './clock.ts';

/** After the first push is in force. A worker collects more than a second after it (proxy/worker/heap-mode.ts), and then trims the malloc(3) that both threads share. */
const DELAY_MS = 500;

/** Collects once what starting has left behind in the control thread: modules that were read, a handshake, the first push. */
export class Settling {
  readonly #clock: Clock;
  readonly #collect: () => void;
  #cancel: (() => void) | null = null;

  constructor(clock: Clock, collect: () => void = collectAllGarbage) {
    this.#clock = clock;
    this.#collect = collect;
  }

  /** Every further call is without effect. */
  started(): void {
    this.#cancel ??= this.#clock.after(DELAY_MS, this.#collect);
  }

  close(): void {
    this.#cancel?.();
  }
}
