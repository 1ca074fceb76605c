import { NativeBuffer } from '../native/memory.ts';

/**
 * What a tunnel will write at the end of the turn. Application bytes are read straight behind the room for their frame header, so nothing is
 * copied before encryption. A tunnel holds one only while it has something to write: idle tunnels cost nothing.
 */
export const STAGING_BYTES = 320 * 1024;
/** The last part is for control frames only: when data fills the rest, acknowledgements and resets still find room. */
export const CONTROL_RESERVE = 64 * 1024;

const KEPT = 4;

export class StagingPool {
  readonly #free: NativeBuffer[] = [];

  take(): NativeBuffer {
    return this.#free.pop() ?? new NativeBuffer(STAGING_BYTES);
  }

  give(buffer: NativeBuffer): void {
    if (this.#free.length < KEPT) this.#free.push(buffer);
    else buffer.free();
  }
}
