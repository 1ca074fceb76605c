const FIRST_BYTES = 4096;

/**
 * The bytes of a body of at most `limit` bytes, in one buffer. NEVER the pieces in which they came: a peer that sends them one by one (chunks of
 * RFC 9112, 7.1) would have an object of a hundred bytes kept for each.
 */
export class CollectedBytes {
  readonly #limit: number;
  #buffer = Buffer.alloc(0);
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Of all that was added, kept or not. */
  get length(): number {
    return this.#length;
  }

  /** Whether all is within the limit; where it is not, nothing is kept any more. */
  add(bytes: Uint8Array): boolean {
    const at = this.#length;
    this.#length += bytes.length;
    if (this.#length > this.#limit) {
      this.#buffer = Buffer.alloc(0);
      return false;
    }
    if (this.#length > this.#buffer.length) {
      const room = Math.min(this.#limit, Math.max(2 * this.#length, FIRST_BYTES));
      const wider = Buffer.allocUnsafeSlow(room);
      this.#buffer.copy(wider);
      this.#buffer = wider;
    }
    this.#buffer.set(bytes, at);
    return true;
  }

  /** What was added; empty where that was more than the limit. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }
}
