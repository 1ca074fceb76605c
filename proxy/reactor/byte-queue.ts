const EMPTY = Buffer.alloc(0);

/**
 * Bytes that wait, in order, in one buffer of JavaScript's memory: as large as they are at first, doubled when more come. Whoever pushes bounds
 * it. An empty one holds nothing.
 */
export class ByteQueue {
  #bytes = EMPTY;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** The bytes themselves, to be looked at; valid until the next change. */
  get view(): Buffer {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** Copies `[start, end)` of `from`. */
  push(from: Buffer, start: number, end: number): void {
    const more = end - start;
    if (this.#end + more > this.#bytes.length) this.#grow(more);
    from.copy(this.#bytes, this.#end, start, end);
    this.#end += more;
  }

  #grow(more: number): void {
    const { length } = this;
    const needed = length + more;
    // Not from node's pool: a slice of that would keep 8 KiB alive for the few bytes that wait.
    const grown = needed > this.#bytes.length ? Buffer.allocUnsafeSlow(Math.max(needed, length * 2)) : this.#bytes;
    this.#bytes.copy(grown, 0, this.#start, this.#end);
    this.#bytes = grown;
    this.#start = 0;
    this.#end = length;
  }

  /** Copies from the front to the beginning of `target`, as much as it has room for; they stay. @returns how many. */
  copyTo(target: Buffer): number {
    return this.#bytes.copy(target, 0, this.#start, this.#end);
  }

  /** Forgets `count` bytes from the front. */
  drop(count: number): void {
    this.#start += count;
    if (this.#start >= this.#end) this.clear();
  }

  clear(): void {
    this.#bytes = EMPTY;
    this.#start = 0;
    this.#end = 0;
  }
}
