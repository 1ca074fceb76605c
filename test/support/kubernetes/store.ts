import { randomUUID } from 'node:crypto';
import type { JsonObject } from '../../../policy/types.ts';
import { convert } from './conversion.ts';
import { nameOf, namespaceOf, withMeta } from './objects.ts';

/** One version of one object. */
export class Entry {
  readonly object: JsonObject;
  readonly revision: number;
  readonly namespace: string;
  readonly name: string;
  readonly #texts = new Map<string, string>();

  constructor(object: JsonObject, revision: number) {
    this.object = object;
    this.revision = revision;
    this.namespace = namespaceOf(object);
    this.name = nameOf(object);
  }

  /** In the given version of its kind. */
  in(apiVersion: string): JsonObject {
    return convert(this.object, apiVersion);
  }

  /** JSON, made once for all who list and watch. */
  text(apiVersion: string): string {
    const known = this.#texts.get(apiVersion);
    if (known !== undefined) return known;
    const text = JSON.stringify(this.in(apiVersion));
    this.#texts.set(apiVersion, text);
    return text;
  }
}

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly storage: string;
  /** Of a deletion: the last state, with the revision of the deletion. */
  readonly entry: Entry;
  readonly before: Entry | null;
}

export type Listener = (change: Change) => void;

class Collection {
  readonly namespaces = new Map<string, Map<string, Entry>>();
  readonly listeners = new Set<Listener>();
  changes: Change[] = [];
  /** Changes up to here are forgotten. */
  floor = 0;
}

/** Objects by kind, one counter of revisions over all, and what changed of late. */
export class Store {
  readonly #collections = new Map<string, Collection>();
  readonly #listeners = new Set<Listener>();
  readonly #historyLength: number;
  #revision = 1;
  #floor = 0;
  /** A listener that writes does so between deliveries: all listeners see all changes in one order. */
  readonly #undelivered: { readonly change: Change; readonly collection: Collection }[] = [];
  #delivering = false;

  constructor(historyLength: number) {
    this.#historyLength = historyLength;
  }

  /** Of the latest write, whatever its kind. */
  get revision(): number {
    return this.#revision;
  }

  get(storage: string, namespace: string, name: string): Entry | null {
    return this.#collection(storage).namespaces.get(namespace)?.get(name) ?? null;
  }

  /** In order of namespace and name, as etcd's keys are. */
  list(storage: string, namespace: string | null): readonly Entry[] {
    const { namespaces } = this.#collection(storage);
    const chosen = namespace === null ? [...namespaces.keys()].sort() : [namespace];
    return chosen.flatMap((one) => {
      const entries = [...(namespaces.get(one)?.values() ?? [])];
      return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    });
  }

  storages(): readonly string[] {
    return [...this.#collections.keys()];
  }

  /** Writes without looking at anything: who calls has checked. */
  put(storage: string, object: JsonObject): Entry {
    const collection = this.#collection(storage);
    const entry = this.#versioned(object);
    const names = collection.namespaces.get(entry.namespace) ?? new Map<string, Entry>();
    collection.namespaces.set(entry.namespace, names);
    const before = names.get(entry.name) ?? null;
    names.set(entry.name, entry);
    this.#changed(collection, { type: before === null ? 'ADDED' : 'MODIFIED', storage, entry, before });
    return entry;
  }

  remove(storage: string, namespace: string, name: string): Entry | null {
    const collection = this.#collection(storage);
    const names = collection.namespaces.get(namespace);
    const before = names?.get(name);
    if (names === undefined || before === undefined) return null;
    names.delete(name);
    const entry = this.#versioned(before.object);
    this.#changed(collection, { type: 'DELETED', storage, entry, before });
    return entry;
  }

  /** Called for each change, in order, after it is made. Returns what ends it. */
  subscribe(storage: string | null, listener: Listener): () => void {
    const listeners = storage === null ? this.#listeners : this.#collection(storage).listeners;
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /** What changed after a revision; null where that is forgotten. */
  since(storage: string, revision: number): readonly Change[] | null {
    const { changes, floor } = this.#collection(storage);
    if (revision < Math.max(floor, this.#floor)) return null;
    let low = 0;
    for (let high = changes.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((changes[middle]?.entry.revision ?? 0) > revision) high = middle;
      else low = middle + 1;
    }
    return changes.slice(low);
  }

  /** Forgets history: every revision before the present one is too old from now on. */
  compact(): void {
    this.#floor = this.#revision;
    for (const collection of this.#collections.values()) collection.changes = [];
  }

  #collection(storage: string): Collection {
    const known = this.#collections.get(storage);
    if (known !== undefined) return known;
    const made = new Collection();
    this.#collections.set(storage, made);
    return made;
  }

  #versioned(object: JsonObject): Entry {
    this.#revision++;
    return new Entry(withMeta(object, { resourceVersion: String(this.#revision) }), this.#revision);
  }

  #changed(collection: Collection, change: Change): void {
    collection.changes.push(change);
    if (collection.changes.length > 2 * this.#historyLength) {
      const forgotten = collection.changes.splice(0, this.#historyLength);
      collection.floor = forgotten.at(-1)?.entry.revision ?? collection.floor;
    }
    this.#undelivered.push({ change, collection });
    if (!this.#delivering) this.#deliver();
  }

  #deliver(): void {
    this.#delivering = true;
    try {
      for (let next = this.#undelivered.shift(); next !== undefined; next = this.#undelivered.shift()) {
        for (const listener of [...next.collection.listeners, ...this.#listeners]) listener(next.change);
      }
    } finally {
      this.#delivering = false;
    }
  }
}

export const newUid = (): string => randomUUID();
