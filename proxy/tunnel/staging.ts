import { NativeBuffer } from '../native/memory.ts';

/**
 * What a tunnel will write at the end of the turn. Application bytes are read straight behind the room for their frame header, so nothing is
 * copied before encryption. A tunnel holds one only while it has something to write: idle tunnels cost nothing.
 */
export const STAGING_BYTES = 320 * 1024;
/** The last part is for control frames only: when data fills the rest, acknowledgements and resets still find room. */
export const CONTROL_RESERVE = 64 * 1024;

/** Keeps what it has made: there are as many as tunnels ever wrote in one turn, and only the pages they wrote take memory. */
export class StagingPool {
  readonly #free: NativeBuffer[] = [];

  take(): NativeBuffer {
    return this.#free.pop() ?? new NativeBuffer(STAGING_BYTES);
  }

  give(buffer: NativeBuffer): void {
    this.#free.push(buffer);
  }
}
