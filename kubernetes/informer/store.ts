/** What has become of one object. */
export interface ObjectChange<T> {
  /** `<namespace>/<name>`, or `<name>` of a cluster-scoped object. */
  readonly key: string;
  /** Null: it was not there. */
  readonly before: T | null;
  /** Null: it is gone, or no longer of interest. */
  readonly after: T | null;
}

/**
 * The objects of one kind, as they were last heard of. Pure; one owner, who feeds it.
 *
 * ALWAYS: an object that is equal to what was there keeps its identity, so that whoever reads may compare by `===`.
 */
export class ObjectStore<T> {
  readonly #equals: (a: T, b: T) => boolean;
  #objects: Map<string, T> = new Map();

  constructor(equals: (a: T, b: T) => boolean) {
    this.#equals = equals;
  }

  get objects(): ReadonlyMap<string, T> {
    return this.#objects;
  }

  /** @param after null: remove it. @returns null where nothing has changed. */
  set(key: string, after: T | null): ObjectChange<T> | null {
    const before = this.#objects.get(key) ?? null;
    if (after === null) {
      if (!this.#objects.delete(key)) return null;
    } else {
      if (before !== null && this.#equals(before, after)) return null;
      this.#objects.set(key, after);
    }
    return { key, before, after };
  }

  /** Puts a whole collection in the place of the old one, in one step. @returns what differs. */
  replace(objects: ReadonlyMap<string, T>): readonly ObjectChange<T>[] {
    const old = this.#objects;
    const changes: ObjectChange<T>[] = [];
    const next = new Map<string, T>();
    for (const [key, after] of objects) {
      const before = old.get(key) ?? null;
      const same = before !== null && this.#equals(before, after);
      next.set(key, same ? before : after);
      if (!same) changes.push({ key, before, after });
    }
    for (const [key, before] of old) if (!objects.has(key)) changes.push({ key, before, after: null });
    this.#objects = next;
    return changes;
  }
}
