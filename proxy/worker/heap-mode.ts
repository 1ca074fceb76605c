import { setFlagsFromString } from 'node:v8';

/** Share of its time that a worker spends in turns of its loop: above, V8 may take memory for speed; below, it may give it back. */
const BUSY = 0.05;
const QUIET = 0.01;
/** Reports (one a second) in a row that must be quiet before memory is given back: compiled code goes with it, and would be missed in a pause. */
const QUIET_REPORTS = 60;

/** What of V8 is needed here. */
export interface Heap {
  /** Lets the heap grow with the load, in the whole process. */
  favourSpeed(): void;
  /** Collects all garbage and gives pages back; takes some ten milliseconds. */
  shrink(): void;
}

/** V8's own; `--expose-gc` (cli/sidecar/launch.ts) brings the collector's function. */
export const V8_HEAP: Heap = {
  favourSpeed: () => setFlagsFromString('--no-optimize-for-size'),
  shrink: () => globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' }),
};

/**
 * An idle sidecar is to be small, a busy one quick, and V8 has one switch for both: with --optimize-for-size each full collection shrinks the young
 * generation to nothing, so that under load most requests outlive it (measured: half of the CPU of HTTP/2 requests). So it is on until the first
 * load comes; and when load has gone, what it left is collected once.
 */
export class HeapMode {
  readonly #heap: Heap;
  #fast = false;
  #stretched = false;
  #quiet = 0;

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** @param share of the time since the last report that was spent in turns, 0 to 1 */
  report(share: number): void {
    if (share >= BUSY) {
      this.#quiet = 0;
      this.#stretched = true;
      if (this.#fast) return;
      this.#fast = true;
      this.#heap.favourSpeed();
      return;
    }
    if (!this.#stretched) return;
    this.#quiet = share < QUIET ? this.#quiet + 1 : 0;
    if (this.#quiet < QUIET_REPORTS) return;
    this.#stretched = false;
    this.#heap.shrink();
  }
}
