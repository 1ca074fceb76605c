/** Those who want to hear of one kind of change, in the order in which they came. */
export class Listeners {
  readonly #listeners = new Set<() => void>();

  /** Returns what takes the listener off. */
  add(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(): void {
    for (const listener of this.#listeners) listener();
  }

  clear(): void {
    this.#listeners.clear();
  }
}
