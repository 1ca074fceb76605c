import type { ResourceType } from '../../../kubernetes/api/types.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { withServerDefaults } from './defaults.ts';
import { at, finalizersOf, metaOf, nameOf, namespaceOf, timestamp, withMeta } from './objects.ts';
import type { ServiceAddresses } from './service-addresses.ts';
import { newUid, type Store } from './store.ts';
import { apiVersionOf, type ServedType, type TypeRegistry } from './type-registry.ts';

/** A kind: by apiVersion and kind as objects name it, or by the type that a client of ours uses. */
export type KindName =
  | Pick<ResourceType, 'group' | 'version' | 'kind'>
  | { readonly apiVersion: string; readonly kind: string };

/**
 * The store as tests and controllers use it: at once, and past authorization, admission and validation. What is written gets the server's defaults,
 * a UID, and a new resourceVersion.
 */
export class DirectStore {
  readonly #store: Store;
  readonly #types: TypeRegistry;
  readonly #addresses: ServiceAddresses;

  constructor(store: Store, types: TypeRegistry, addresses: ServiceAddresses) {
    this.#store = store;
    this.#types = types;
    this.#addresses = addresses;
  }

  /** Creates or replaces it, status and all. Namespaced objects that name no namespace go to `default`. */
  put(object: JsonObject): JsonObject {
    const type = this.#typeOf(object);
    const namespace = homeOf(type, namespaceOf(object));
    const before = this.#store.get(type.storage, namespace, nameOf(object))?.object ?? null;
    const meta = metaOf(before ?? {});
    const complete = withMeta(object, {
      namespace: type.namespaced ? namespace : undefined,
      uid: meta.uid ?? at(object, 'metadata', 'uid') ?? newUid(),
      creationTimestamp: meta.creationTimestamp ?? at(object, 'metadata', 'creationTimestamp') ?? timestamp(),
      generation: before === null ? 1 : Number(meta.generation ?? 1) + 1,
    });
    const defaulted = withServerDefaults(type.storage, complete);
    return this.#store.put(type.storage, this.#addresses.assigned(type.storage, defaulted, before)).object;
  }

  get(kind: KindName, namespace: string, name: string): JsonObject | null {
    const type = this.#typeOf(kind);
    return this.#store.get(type.storage, homeOf(type, namespace), name)?.object ?? null;
  }

  /** Of all namespaces where none is given. */
  list(kind: KindName, namespace?: string): readonly JsonObject[] {
    const type = this.#typeOf(kind);
    const scope = type.namespaced ? (namespace ?? null) : '';
    return this.#store.list(type.storage, scope).map(({ object }) => object);
  }

  /** @throws Error where there is no such object. */
  update(kind: KindName, namespace: string, name: string, change: (object: JsonObject) => JsonObject): JsonObject {
    const current = this.get(kind, namespace, name);
    if (current === null) throw new Error(`there is no ${kind.kind} ${namespace}/${name} in the stand-in`);
    return this.put(change(current));
  }

  /** Merges into the status of an object: what a kubelet or a controller would do. */
  setStatus(
    kind: KindName,
    namespace: string,
    name: string,
    status: { readonly [field: string]: JsonValue },
  ): JsonObject {
    return this.update(kind, namespace, name, (object) => {
      const before = at(object, 'status') as JsonObject | undefined;
      return { ...object, status: { ...before, ...status } };
    });
  }

  /** At once, whatever finalizers or grace period it has; false where there was none. */
  delete(kind: KindName, namespace: string, name: string): boolean {
    const type = this.#typeOf(kind);
    return this.#store.remove(type.storage, homeOf(type, namespace), name) !== null;
  }

  /** Marks it as being deleted, as the API does for pods on nodes and objects with finalizers. */
  markDeleted(kind: KindName, namespace: string, name: string, graceSeconds = 30): JsonObject {
    return this.update(kind, namespace, name, (object) =>
      withMeta(object, {
        deletionTimestamp: timestamp(Date.now() + graceSeconds * 1000),
        deletionGracePeriodSeconds: graceSeconds,
      }),
    );
  }

  /** Removes it as the API would in the end: objects with finalizers are marked, and stay. */
  release(storage: string, object: JsonObject): void {
    if (finalizersOf(object).length === 0) this.#store.remove(storage, namespaceOf(object), nameOf(object));
    else if (at(object, 'metadata', 'deletionTimestamp') === undefined) {
      this.#store.put(storage, withMeta(object, { deletionTimestamp: timestamp(), deletionGracePeriodSeconds: 0 }));
    }
  }

  #typeOf(named: JsonObject | KindName): ServedType {
    const { apiVersion, group, version, kind } = named as { readonly [field: string]: JsonValue | undefined };
    const asWritten =
      typeof apiVersion === 'string'
        ? apiVersion
        : apiVersionOf({ group: String(group ?? ''), version: String(version ?? 'v1') });
    return this.#types.ofKind(asWritten, String(kind));
  }
}

const homeOf = (type: ServedType, namespace: string): string =>
  type.namespaced ? (namespace === '' ? 'default' : namespace) : '';
