import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import type { KubernetesApi, ListPage, ResourceType, Selection, WatchEvent } from '../../../kubernetes/api/types.ts';
import type { JsonObject } from '../../../policy/types.ts';

interface Watch {
  readonly type: ResourceType;
  readonly onEvent: (event: WatchEvent) => void;
  readonly end: (error?: Error) => void;
}

type Event = { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly plural: string; readonly object: JsonObject };

/** As much of an API server as an informer meets: objects with versions, lists, watches, and all that can go wrong with them. */
export class FakeCluster implements Pick<KubernetesApi, 'list' | 'watch' | 'discover'> {
  version = 100;
  /** Older versions are forgotten. */
  compacted = 0;
  /** Thrown by every call while it is set. */
  failure: Error | null = null;
  /** Watches are refused with this while it is set. */
  watchFailure: Error | null = null;
  /** Watches are ended as soon as they have begun. */
  endsAtOnce = false;
  /** `<group>/<version>/<plural>` of kinds that are not there. */
  readonly missing = new Set<string>();
  lists = 0;
  readonly watchedFrom: string[] = [];
  /** Items of a page; each page waits for a turn of the event loop. */
  pageSize = 500;
  readonly #objects = new Map<string, JsonObject>();
  readonly #history: Event[] = [];
  readonly #watches = new Set<Watch>();

  get watches(): number {
    return this.#watches.size;
  }

  put(type: ResourceType, namespace: string, name: string, fields: JsonObject = {}): JsonObject {
    const key = `${type.plural} ${namespace}/${name}`;
    const before = this.#objects.get(key);
    this.version += 1;
    const metadata = {
      ...(namespace === '' ? {} : { namespace }),
      name,
      uid: `uid-${name}`,
      ...(fields.metadata as JsonObject | undefined),
    };
    const object = {
      apiVersion: type.group === '' ? type.version : `${type.group}/${type.version}`,
      kind: type.kind,
      ...fields,
      metadata: { ...metadata, resourceVersion: String(this.version) },
    };
    this.#objects.set(key, object);
    this.#tell({ type: before === undefined ? 'ADDED' : 'MODIFIED', plural: type.plural, object });
    return object;
  }

  remove(type: ResourceType, namespace: string, name: string): void {
    const key = `${type.plural} ${namespace}/${name}`;
    const object = this.#objects.get(key);
    if (object === undefined) throw new Error(`there is no ${key}`);
    this.#objects.delete(key);
    this.version += 1;
    const metadata = { ...(object.metadata as JsonObject), resourceVersion: String(this.version) };
    this.#tell({ type: 'DELETED', plural: type.plural, object: { ...object, metadata } });
  }

  bookmark(): void {
    for (const { onEvent } of this.#watches) onEvent({ type: 'BOOKMARK', resourceVersion: String(this.version) });
  }

  /** Ends every watch, well or with an error. */
  endWatches(error?: Error): void {
    for (const watch of [...this.#watches]) watch.end(error);
  }

  async list(
    type: ResourceType,
    _selection: Selection,
    _signal?: AbortSignal,
    onItems?: (items: readonly JsonObject[]) => void,
  ): Promise<ListPage> {
    this.lists += 1;
    this.#assertThere(type);
    const items = [...this.#objects].filter(([key]) => key.startsWith(`${type.plural} `)).map(([, object]) => object);
    const resourceVersion = String(this.version);
    for (let at = 0; at < items.length; at += this.pageSize) {
      onItems?.(items.slice(at, at + this.pageSize));
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (this.failure !== null) throw this.failure;
    }
    return { items: onItems === undefined ? items : [], resourceVersion };
  }

  async watch(
    type: ResourceType,
    { resourceVersion }: Selection & { readonly resourceVersion: string },
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
    onOpen?: () => void,
  ): Promise<void> {
    this.#assertThere(type);
    if (this.watchFailure !== null) throw this.watchFailure;
    this.watchedFrom.push(resourceVersion);
    const from = Number(resourceVersion);
    if (from < this.compacted) throw new KubernetesError('Expired', 410, 'too old');
    onOpen?.();
    for (const event of this.#history) {
      if (event.plural === type.plural && versionOf(event.object) > from) onEvent(event);
    }
    if (this.endsAtOnce) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const end = (error?: Error): void => {
      this.#watches.delete(watch);
      if (error === undefined) resolve();
      else reject(error);
    };
    const watch: Watch = { type, onEvent, end };
    this.#watches.add(watch);
    signal.addEventListener('abort', () => end(new KubernetesError('Aborted', 0, 'given up')), { once: true });
    return promise;
  }

  async discover(groupVersion: string): Promise<readonly ResourceType[] | null> {
    if (this.failure !== null) throw this.failure;
    const [group, version] = groupVersion.split('/');
    const plurals = ['authorizationpolicies', 'peerauthentications', 'requestauthentications'].concat(
      'workloadentries',
      'serviceentries',
    );
    return plurals
      .filter((plural) => !this.missing.has(`${group}/${version}/${plural}`))
      .map((plural) => ({ group: group ?? '', version: version ?? '', kind: '', plural, namespaced: true }));
  }

  #tell(event: Event): void {
    this.#history.push(event);
    for (const { type, onEvent } of this.#watches) if (type.plural === event.plural) onEvent(event);
  }

  #assertThere({ group, version, plural }: ResourceType): void {
    if (this.failure !== null) throw this.failure;
    if (this.missing.has(`${group}/${version}/${plural}`)) throw new KubernetesError('NotFound', 404, 'not served');
  }
}

function versionOf(object: JsonObject): number {
  return Number((object.metadata as JsonObject).resourceVersion);
}

export const gone = (): KubernetesError => new KubernetesError('Unreachable', 0, 'connect ECONNREFUSED');
export const silentLog = { info: () => {}, warn: () => {}, error: () => {} };
