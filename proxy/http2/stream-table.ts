const SMALLEST = 16;
/** Multiplicative hashing (Knuth, The Art of Computer Programming, 6.4): spreads the IDs, which are all odd or all even. */
const SPREAD = 0x9e3779b1;

/**
 * Streams by ID: open addressing with linear probing. Not a `Map`, for the reason that `LiveList` gives: streams come and go with every request.
 * IDs are above 0.
 */
export class StreamTable<S> {
  #ids = new Int32Array(SMALLEST);
  #streams: (S | undefined)[] = new Array<S | undefined>(SMALLEST).fill(undefined);
  #mask = SMALLEST - 1;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): S | undefined {
    const at = this.#find(id);
    return at < 0 ? undefined : this.#streams[at];
  }

  set(id: number, stream: S): void {
    if (this.#size * 2 > this.#mask) this.#grow();
    this.#put(id, stream);
  }

  delete(id: number): boolean {
    const at = this.#find(id);
    if (at < 0) return false;
    this.#size--;
    this.#close(at);
    return true;
  }

  clear(): void {
    this.#ids.fill(0);
    this.#streams.fill(undefined);
    this.#size = 0;
  }

  /** Nothing may be set or deleted meanwhile: see `all`. */
  *[Symbol.iterator](): IterableIterator<S> {
    for (const stream of this.#streams) if (stream !== undefined) yield stream;
  }

  /** A copy: what is done with one may end others. */
  all(): S[] {
    return this.#streams.filter((stream) => stream !== undefined);
  }

  #find(id: number): number {
    const ids = this.#ids;
    for (let at = this.#home(id); ; at = (at + 1) & this.#mask) {
      const found = ids[at];
      if (found === id) return at;
      if (found === 0) return -1;
    }
  }

  #home(id: number): number {
    return (Math.imul(id, SPREAD) >>> 8) & this.#mask;
  }

  #put(id: number, stream: S): void {
    const ids = this.#ids;
    let at = this.#home(id);
    while (ids[at] !== 0 && ids[at] !== id) at = (at + 1) & this.#mask;
    if (ids[at] === 0) this.#size++;
    ids[at] = id;
    this.#streams[at] = stream;
  }

  #grow(): void {
    const ids = this.#ids;
    const streams = this.#streams;
    const capacity = ids.length * 2;
    this.#ids = new Int32Array(capacity);
    this.#streams = new Array<S | undefined>(capacity).fill(undefined);
    this.#mask = capacity - 1;
    this.#size = 0;
    for (let at = 0; at < ids.length; at++) {
      const stream = streams[at];
      if (stream !== undefined) this.#put(ids[at] ?? 0, stream);
    }
    streams.length = 0;
  }

  /** Moves what probed past the gap into it, so that no search stops early. */
  #close(gap: number): void {
    const ids = this.#ids;
    const streams = this.#streams;
    let hole = gap;
    for (let at = (gap + 1) & this.#mask; ids[at] !== 0; at = (at + 1) & this.#mask) {
      const home = this.#home(ids[at] ?? 0);
      // It may move only where its search begins at or before the hole, in probing order.
      if (((at - home) & this.#mask) < ((at - hole) & this.#mask)) continue;
      ids[hole] = ids[at] ?? 0;
      streams[hole] = streams[at];
      hole = at;
    }
    ids[hole] = 0;
    streams[hole] = undefined;
  }
}
