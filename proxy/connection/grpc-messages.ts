/** A byte of flags and the length of what follows, big-endian: gRPC over HTTP/2, "Length-Prefixed-Message". */
const HEADER_BYTES = 5;

/**
 * Counts the messages of one direction of a gRPC call by their length prefixes, however the bytes are split. Looks at the prefixes only and holds
 * nothing of the messages. A message counts once its prefix is whole.
 */
export class GrpcMessages {
  count = 0;
  /** Bytes of the message under way that are still to come. */
  #left = 0;
  /** Bytes of the prefix that have come. */
  #prefix = 0;
  #length = 0;

  scan(bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, end - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      // Not shifted: a length of 2^31 and above must stay positive.
      if (this.#prefix > 0) this.#length = this.#length * 256 + (bytes[at] ?? 0);
      at++;
      if (++this.#prefix < HEADER_BYTES) continue;
      this.count++;
      this.#left = this.#length;
      this.#prefix = 0;
      this.#length = 0;
    }
  }
}
