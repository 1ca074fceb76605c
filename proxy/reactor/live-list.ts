/** Whatever is in a list knows where; -1: in none. Touched by its list alone. */
export interface Listed {
  listIndex: number;
}

/**
 * A set of objects that come and go with every request or connection; in no order. Not a `Set`: each time that is rehashed, the table it leaves
 * points to the next one, so that a single table that has grown old in V8's heap keeps all later ones, and all that ever was in them, from being
 * collected as young (measured: two thirds of the CPU of HTTP/2 requests).
 */
export class LiveList<T extends Listed> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    if (item.listIndex !== -1) return;
    item.listIndex = this.#items.length;
    this.#items.push(item);
  }

  delete(item: T): void {
    const { listIndex } = item;
    if (listIndex === -1) return;
    item.listIndex = -1;
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    this.#items[listIndex] = last;
    last.listIndex = listIndex;
  }

  /** Whether it is in this very list. */
  has(item: T): boolean {
    return item.listIndex !== -1 && this.#items[item.listIndex] === item;
  }

  /** A copy: what is done with one may end others. */
  all(): T[] {
    return this.#items.slice();
  }

  /** Nothing may be added or deleted meanwhile. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#items.values();
  }
}
