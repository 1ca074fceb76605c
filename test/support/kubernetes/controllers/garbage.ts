import type { DirectStore } from '../direct-store.ts';
import { objectsAt, textAt, uidOf } from '../objects.ts';
import type { Change, Store } from '../store.ts';

interface Dependent {
  readonly storage: string;
  readonly namespace: string;
  readonly name: string;
}

/** Deletes what a deleted object owned, at once (`propagationPolicy: Background`, the default). */
export class GarbageCollector {
  readonly #store: Store;
  readonly #direct: DirectStore;
  /** By the UID of an owner, then by place. */
  readonly #dependents = new Map<string, Map<string, Dependent>>();

  constructor(store: Store, direct: DirectStore) {
    this.#store = store;
    this.#direct = direct;
    store.subscribe(null, (change) => this.#changed(change));
  }

  #changed({ type, storage, entry }: Change): void {
    const { namespace, name, object } = entry;
    const place = `${storage}/${namespace}/${name}`;
    for (const owner of objectsAt(object, 'metadata', 'ownerReferences')) {
      const uid = textAt(owner, 'uid');
      const owned = this.#dependents.get(uid) ?? new Map<string, Dependent>();
      if (type === 'DELETED') owned.delete(place);
      else owned.set(place, { storage, namespace, name });
      if (owned.size === 0) this.#dependents.delete(uid);
      else this.#dependents.set(uid, owned);
    }
    if (type === 'DELETED') this.#collect(uidOf(object));
  }

  #collect(uid: string): void {
    const owned = this.#dependents.get(uid);
    this.#dependents.delete(uid);
    for (const { storage, namespace, name } of owned?.values() ?? []) {
      const dependent = this.#store.get(storage, namespace, name);
      if (dependent !== null) this.#direct.release(storage, dependent.object);
    }
  }
}
