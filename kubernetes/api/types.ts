import type { JsonObject, JsonValue } from '../../policy/types.ts';

/**
 * The Kubernetes API as Postern uses it: the contract between the client (`kubernetes/api/`), the informers and leases built on it, and those who
 * read or write objects. Objects stay JSON: each reader takes the fields it needs, strictly.
 */

/** A kind of object as the API serves it: `/apis/<group>/<version>/<plural>`, or `/api/v1/<plural>` where the group is empty. */
export interface ResourceType {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

/** Where an object is, or is to be. */
export interface ObjectName {
  /** Empty for cluster-scoped objects. */
  readonly namespace: string;
  readonly name: string;
}

export interface Selection {
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export interface ListPage {
  readonly items: readonly JsonObject[];
  /** Of the collection, from which a watch goes on. */
  readonly resourceVersion: string;
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: JsonObject }
  /** Nothing changed up to this version. */
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export type PatchType = 'merge' | 'json' | 'apply';

export interface WriteOptions {
  /** Server-side apply and merge patches are attributed to it. Default `postern`. */
  readonly fieldManager?: string;
  /** Server-side apply: take fields over from other managers. */
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly subresource?: 'status';
  readonly signal?: AbortSignal;
}

/**
 * Every call has a deadline of its own besides `signal`, bounded bodies, and throws `KubernetesError` for an answer that is not a success, or where
 * there is none.
 */
export interface KubernetesApi {
  get(type: ResourceType, name: ObjectName, signal?: AbortSignal): Promise<JsonObject>;
  /**
   * All pages of it. With `onItems` each page is handed over when it comes, and a client may leave it out of the answer, so that nobody holds all of
   * a large collection. @throws KubernetesError also where the pages expire while they are read (`reason` Expired): list anew, forgetting those.
   */
  list(
    type: ResourceType,
    selection: Selection,
    signal?: AbortSignal,
    onItems?: (items: readonly JsonObject[]) => void,
  ): Promise<ListPage>;
  /**
   * Calls `onEvent` for each event after `resourceVersion`, in order, and resolves when the server ends the stream in good order (it does so after
   * some minutes). `onOpen` is called once the server has begun to answer. @throws KubernetesError `Expired`/`Gone` (410, also as an ERROR event): list anew; others: watch again after a pause.
   */
  watch(
    type: ResourceType,
    selection: Selection & { readonly resourceVersion: string },
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
    onOpen?: () => void,
  ): Promise<void>;
  create(type: ResourceType, namespace: string, object: JsonObject, options?: WriteOptions): Promise<JsonObject>;
  /** The object's `metadata.resourceVersion` must be the current one. @throws KubernetesError `Conflict` where it is not. */
  replace(type: ResourceType, name: ObjectName, object: JsonObject, options?: WriteOptions): Promise<JsonObject>;
  patch(
    type: ResourceType,
    name: ObjectName,
    patch: { readonly type: PatchType; readonly body: JsonValue },
    options?: WriteOptions,
  ): Promise<JsonObject>;
  /** Absent objects are no error: false. */
  delete(
    type: ResourceType,
    name: ObjectName,
    options?: { readonly uid?: string; readonly resourceVersion?: string; readonly signal?: AbortSignal },
  ): Promise<boolean>;
  /** Of the server: major and minor as numbers (`29+` is 29). */
  version(
    signal?: AbortSignal,
  ): Promise<{ readonly major: number; readonly minor: number; readonly gitVersion: string }>;
  /** The resource types that a group and version serves; null where it serves none. `groupVersion` is `v1` or `apps/v1`. */
  discover(groupVersion: string, signal?: AbortSignal): Promise<readonly ResourceType[] | null>;
  close(): Promise<void>;
}
