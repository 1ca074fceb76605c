import { NativeBuffer } from '../native/memory.ts';

/**
 * What a connection will write at the end of the turn. An application's bytes are read straight behind the room for their frame header, so
 * nothing is copied before encryption. A connection holds one only while it has something to write: idle ones cost nothing.
 */
export const STAGING_BYTES = 320 * 1024;
/** The last part is for control frames only: when data fills the rest, acknowledgements and resets still find room. */
export const CONTROL_RESERVE = 64 * 1024;
/** So many keep their pages whatever the need was lately. */
const KEPT = 8;
/** After so many returns, what was not needed in all that time gives its pages back. */
const TRIM_EVERY = 1_024;

/**
 * The staging buffers of a worker. A buffer's view lives as long as the thread (see `viewAt`), so there stay as many as connections ever wrote in
 * one turn; but those that are not needed lately give their memory back to the kernel, and are taken last.
 */
export class StagingPool {
  /** Taken from the end: the beginning is what is needed least. */
  readonly #free: NativeBuffer[] = [];
  /** How many at the beginning of `#free` have no pages. */
  #empty = 0;
  /** Fewest free ones since the last trim. */
  #least = 0;
  #returns = 0;

  take(): NativeBuffer {
    const buffer = this.#free.pop() ?? new NativeBuffer(STAGING_BYTES);
    const left = this.#free.length;
    if (left < this.#least) this.#least = left;
    if (left < this.#empty) this.#empty = left;
    return buffer;
  }

  give(buffer: NativeBuffer): void {
    this.#free.push(buffer);
    if (++this.#returns >= TRIM_EVERY) this.trim();
  }

  /** Gives back the memory of what was not needed since the last call. */
  trim(): void {
    const idle = Math.min(this.#least, this.#free.length - KEPT);
    for (; this.#empty < idle; this.#empty++) this.#free[this.#empty]?.discard();
    this.#least = this.#free.length;
    this.#returns = 0;
  }
}
