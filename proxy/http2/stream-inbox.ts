import type { NativeBuffer } from '../native/memory.ts';
import type { FrameOutput } from './output.ts';

/** What waits for a slow reader lies in chunks of at least this: a peer that sends byte by byte must not make each byte cost an object. */
const CHUNK_BYTES = 4096;

/**
 * What came for one stream and waits for its reader, and the stream's receive window. ALWAYS: bytes count against the window until the reader
 * has taken them; it grows only while the reader keeps up, so that a slow one never makes us hold more than the first.
 */
export class StreamInbox {
  readonly #output: FrameOutput;
  readonly #id: number;
  readonly #maxWindow: number;
  #window: number;
  #windowSize: number;
  #uncredited = 0;
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** The chunk that the last of the chunks lies in, where it may grow. */
  #tail: Buffer | null = null;
  #tailUsed = 0;
  /** The peer has ended: it needs no window. */
  ended = false;

  constructor(output: FrameOutput, id: number, window: number, maxWindow: number) {
    this.#output = output;
    this.#id = id;
    this.#window = window;
    this.#windowSize = window;
    this.#maxWindow = maxWindow;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @returns false where the peer sent more than it may. */
  receive(bytes: number): boolean {
    this.#window -= bytes;
    return this.#window >= 0;
  }

  hold(from: NativeBuffer, start: number, end: number): void {
    const length = end - start;
    this.#bytes += length;
    const last = this.#chunks.at(-1);
    if (length >= CHUNK_BYTES || last === undefined) {
      // Mostly it is the first words of a connection, for an application that is being dialled.
      this.#chunks.push(Buffer.from(from.bytes.subarray(start, end)));
      this.#tail = null;
    } else if (this.#tail === null || this.#tailUsed + length > CHUNK_BYTES) {
      this.#tail = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      this.#tailUsed = from.bytes.copy(this.#tail, 0, start, end);
      this.#chunks.push(this.#tail.subarray(0, this.#tailUsed));
    } else {
      // The beginning of the last part may have been taken already.
      this.#tailUsed += from.bytes.copy(this.#tail, this.#tailUsed, start, end);
      this.#chunks[this.#chunks.length - 1] = this.#tail.subarray(last.byteOffset, this.#tailUsed);
    }
  }

  /** The oldest bytes that wait; null: none. */
  get first(): Buffer | null {
    return this.#chunks[0] ?? null;
  }

  /** At most `most` of the bytes that wait, which stay; null: none. */
  peek(most: number): Buffer | null {
    const [first] = this.#chunks;
    if (first === undefined) return null;
    return this.#chunks.length === 1 || first.length >= most
      ? first.subarray(0, most)
      : Buffer.concat(this.#chunks, Math.min(most, this.#bytes));
  }

  /** The reader has taken `bytes` of `first`. */
  take(bytes: number): void {
    const first = this.#chunks[0];
    if (first === undefined) return;
    this.#bytes -= bytes;
    if (bytes < first.length) this.#chunks[0] = first.subarray(bytes);
    else this.#chunks.shift();
    if (this.#chunks.length === 0) this.#tail = null;
    this.credit(bytes);
  }

  /** Gives window back for what the reader took; more of it while the reader keeps up. */
  credit(bytes: number): void {
    this.#uncredited += bytes;
    if (this.#uncredited < this.#windowSize / 2 || this.ended) return;
    let increment = this.#uncredited;
    if (this.#bytes === 0 && this.#windowSize < this.#maxWindow) {
      increment += this.#windowSize;
      this.#windowSize *= 2;
    }
    this.#uncredited = 0;
    this.#window += increment;
    this.#output.sendWindowUpdate(this.#id, increment);
  }

  clear(): void {
    this.#chunks = [];
    this.#tail = null;
    this.#bytes = 0;
    this.ended = true;
  }
}
