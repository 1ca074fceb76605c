import { setFlagsFromString } from 'node:v8';
import { collectAllGarbage } from '../../mesh/heap.ts';
import { releaseFreeMemory } from '../native/memory.ts';

/** Share of its time that a worker spends in turns of its loop: above, V8 may take memory for speed; below, it may give it back. */
const BUSY = 0.05;
const QUIET = 0.01;
/** Reports (one a second) in a row that must be quiet before memory is given back: compiled code goes with it, and would be missed in a pause. */
const QUIET_REPORTS = 60;
/** The same before the first load: nothing would be missed. By then the control thread has collected its own garbage (proxy/control/settling.ts). */
const SETTLED_REPORTS = 1;

/** What of V8 is needed here. */
export interface Heap {
  /** Lets the heap grow with the load, in the whole process. */
  favourSpeed(): void;
  /** Collects all garbage and gives pages back; takes some ten milliseconds. */
  shrink(): void;
}

/** V8's own, and the malloc(3) beneath it. */
export const V8_HEAP: Heap = {
  favourSpeed: () => setFlagsFromString('--no-optimize-for-size'),
  shrink: () => {
    collectAllGarbage();
    releaseFreeMemory();
  },
};

/**
 * An idle sidecar is to be small, a busy one quick, and V8 has one switch for both: with --optimize-for-size each full collection shrinks the young
 * generation to nothing, so that under load most requests outlive it (measured: half of the CPU of HTTP/2 requests). So it is on until the first
 * load comes; and when load has gone, what it left is collected once. So is what the start has left: 6 MB of an idle sidecar.
 */
export class HeapMode {
  readonly #heap: Heap;
  #phase: 'starting' | 'started' | 'running' = 'starting';
  #fast = false;
  /** Holds what it need not: the garbage of a load, or of the start. */
  #stretched = true;
  #quiet = 0;

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** To be told when resources are in force: loading code, the first context and the first push are no load. */
  started(): void {
    if (this.#phase === 'starting') this.#phase = 'started';
  }

  /** @param share of the time since the last report that was spent in turns, 0 to 1 */
  report(share: number): void {
    if (this.#phase !== 'running') {
      // The first report that comes now tells of the start still.
      if (this.#phase === 'started') this.#phase = 'running';
      return;
    }
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
    if (this.#quiet < (this.#fast ? QUIET_REPORTS : SETTLED_REPORTS)) return;
    this.#stretched = false;
    this.#heap.shrink();
  }
}
