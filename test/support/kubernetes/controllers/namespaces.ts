import type { JsonObject } from '../../../../policy/types.ts';
import type { DirectStore } from '../direct-store.ts';
import { finalizersOf, isDeleting, nameOf, namespaceOf } from '../objects.ts';
import type { Change, Store } from '../store.ts';

/** What every namespace gets, and what becomes of its contents when it is deleted. */
export class Namespaces {
  readonly #store: Store;
  readonly #direct: DirectStore;

  constructor(store: Store, direct: DirectStore) {
    this.#store = store;
    this.#direct = direct;
    store.subscribe(null, (change) => this.#changed(change));
  }

  #changed({ type, storage, entry }: Change): void {
    if (storage === '/namespaces') {
      if (type === 'ADDED') this.#furnish(entry.name);
      if (type === 'MODIFIED' && isDeleting(entry.object)) this.#empty(entry.object);
      return;
    }
    if (entry.namespace === '') return;
    const home = this.#store.get('/namespaces', '', entry.namespace);
    if (home !== null && isDeleting(home.object) && type === 'DELETED') this.#finish(home.object);
  }

  #furnish(namespace: string): void {
    this.#direct.put({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } });
  }

  #empty(home: JsonObject): void {
    for (const storage of this.#store.storages()) {
      if (storage === '/namespaces') continue;
      for (const { object } of this.#store.list(storage, nameOf(home))) this.#direct.release(storage, object);
    }
    this.#finish(home);
  }

  /** Gone when nothing is left in it. */
  #finish(home: JsonObject): void {
    const name = nameOf(home);
    const isEmpty = this.#store.storages().every((storage) => this.#store.list(storage, name).length === 0);
    if (isEmpty && finalizersOf(home).length === 0 && namespaceOf(home) === '')
      this.#store.remove('/namespaces', '', name);
  }
}
