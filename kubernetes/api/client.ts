import { asObject, asString, field, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import type { Connection } from './connection.ts';
import { isReason, KubernetesError } from './errors.ts';
import { resourceVersionOf } from './object-meta.ts';
import { collectionPath, groupVersionOf, groupVersionPath, objectPath, selectionQuery, withQuery } from './paths.ts';
import { parseObject } from './status.ts';
import { type Call, Transport, type TransportLimits } from './transport.ts';
import type {
  KubernetesApi,
  ListPage,
  ObjectName,
  PatchType,
  ResourceType,
  Selection,
  WatchEvent,
  WriteOptions,
} from './types.ts';
import { WatchEvents } from './watch-events.ts';

export interface ClientTimings {
  readonly requestMs: number;
  readonly listPageMs: number;
  /** A watch asks the server to end it after a random time between the two. */
  readonly watchLeastMs: number;
  readonly watchMostMs: number;
  /** Beyond the time it asked for, a watch that is silent is given up. */
  readonly watchSlackMs: number;
}

const TIMINGS: ClientTimings = {
  requestMs: 30_000,
  listPageMs: 60_000,
  watchLeastMs: 300_000,
  watchMostMs: 600_000,
  watchSlackMs: 30_000,
};

const PAGE_SIZE = 500;
/** Of one object: far beyond what etcd stores, and little to hold for a moment. */
const MAX_OBJECT_BYTES = 16 * 1024 * 1024;
const MAX_PAGE_BYTES = 128 * 1024 * 1024;
/** However the server counts: 5,000,000 objects. */
const MAX_PAGES = 10_000;

const PATCH_TYPES: { readonly [type in PatchType]: string } = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  // JSON is YAML too.
  apply: 'application/apply-patch+yaml',
};

/** Kinds whose objects hold keys or tokens. */
const CONFIDENTIAL = ['Secret', 'TokenReview'];

export interface ClientOptions {
  readonly timings?: Partial<ClientTimings>;
  readonly limits?: Partial<TransportLimits>;
  readonly random?: () => number;
}

/** Speaks to one API server. Nothing is retried here: whoever asks knows what for, and how long. */
export class KubernetesClient implements KubernetesApi {
  readonly #transport: Transport;
  readonly #timings: ClientTimings;
  readonly #random: () => number;

  constructor(connection: Connection, { timings, limits, random = Math.random }: ClientOptions = {}) {
    this.#transport = new Transport(connection, limits);
    this.#timings = { ...TIMINGS, ...timings };
    this.#random = random;
  }

  async get(type: ResourceType, name: ObjectName, signal?: AbortSignal): Promise<JsonObject> {
    return this.#object({ method: 'GET', path: objectPath(type, name), signal });
  }

  async list(
    type: ResourceType,
    selection: Selection,
    signal?: AbortSignal,
    onItems?: (items: readonly JsonObject[]) => void,
  ): Promise<ListPage> {
    const items: JsonObject[] = [];
    const path = collectionPath(type, selection.namespace);
    const what = `GET ${path}`;
    let token = '';
    let resourceVersion = '';
    for (let count = 0; count < MAX_PAGES; count++) {
      const query = { ...selectionQuery(selection), limit: String(PAGE_SIZE), continue: token };
      const body = await this.#object({
        method: 'GET',
        path: withQuery(path, query),
        signal,
        timeoutMs: this.#timings.listPageMs,
        maxBytes: MAX_PAGE_BYTES,
      });
      // The pages are of one moment, that of the first.
      if (count === 0) resourceVersion = resourceVersionOf(body) ?? '';
      const page = field(body, 'items') ?? [];
      if (!isList(page) || resourceVersion === '') throw malformed(what, 'the answer is no list');
      const objects = page.map((item) => typed(item, type, what));
      if (onItems === undefined) items.push(...objects);
      else onItems(objects);
      token = asString(field(asObject(field(body, 'metadata')), 'continue')) ?? '';
      if (token === '') return { items, resourceVersion };
    }
    throw malformed(what, `the list has more than ${MAX_PAGES} pages`);
  }

  async watch(
    type: ResourceType,
    selection: Selection & { readonly resourceVersion: string },
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
    onOpen?: () => void,
  ): Promise<void> {
    const { watchLeastMs, watchMostMs, watchSlackMs, requestMs } = this.#timings;
    const timeoutMs = watchLeastMs + (watchMostMs - watchLeastMs) * this.#random();
    const path = collectionPath(type, selection.namespace);
    const query = {
      ...selectionQuery(selection),
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: selection.resourceVersion,
      timeoutSeconds: String(Math.max(1, Math.round(timeoutMs / 1000))),
    };
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), timeoutMs + watchSlackMs);
    try {
      const chunks = await this.#transport.open({
        method: 'GET',
        path: withQuery(path, query),
        signal: AbortSignal.any([signal, silence.signal]),
        timeoutMs: requestMs,
      });
      onOpen?.();
      const events = new WatchEvents(`the watch of ${path}`);
      for await (const chunk of chunks) {
        timer.refresh();
        for (const event of events.push(chunk)) {
          // Nobody wants to hear more, though more has arrived.
          if (signal.aborted) break;
          onEvent(event);
        }
      }
    } catch (error) {
      if (!silence.signal.aborted || signal.aborted) throw error;
      const message = `the watch of ${path} has been silent for longer than the server was to keep it`;
      throw new KubernetesError('Unreachable', 0, message, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  async create(
    type: ResourceType,
    namespace: string,
    object: JsonObject,
    options: WriteOptions = {},
  ): Promise<JsonObject> {
    const path = withQuery(collectionPath(type, namespace), writeQuery(options));
    return this.#write(type, { method: 'POST', path, body: JSON.stringify(object), signal: options.signal });
  }

  async replace(
    type: ResourceType,
    name: ObjectName,
    object: JsonObject,
    options: WriteOptions = {},
  ): Promise<JsonObject> {
    const path = withQuery(pathOf(type, name, options), writeQuery(options));
    if (resourceVersionOf(object) === null) {
      throw new KubernetesError(
        'BadRequest',
        0,
        `PUT ${path}: without a resourceVersion others' changes would be lost`,
      );
    }
    return this.#write(type, { method: 'PUT', path, body: JSON.stringify(object), signal: options.signal });
  }

  async patch(
    type: ResourceType,
    name: ObjectName,
    patch: { readonly type: PatchType; readonly body: JsonValue },
    options: WriteOptions = {},
  ): Promise<JsonObject> {
    // Force is for server-side apply; with the others the API refuses it.
    const force = patch.type === 'apply' && options.force === true ? 'true' : undefined;
    return this.#write(type, {
      method: 'PATCH',
      path: withQuery(pathOf(type, name, options), { ...writeQuery(options), force }),
      body: JSON.stringify(patch.body),
      contentType: PATCH_TYPES[patch.type],
      signal: options.signal,
    });
  }

  async delete(
    type: ResourceType,
    name: ObjectName,
    options: { readonly uid?: string; readonly resourceVersion?: string; readonly signal?: AbortSignal } = {},
  ): Promise<boolean> {
    const { uid, resourceVersion, signal } = options;
    const preconditions = {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    };
    const body = JSON.stringify({ apiVersion: 'v1', kind: 'DeleteOptions', preconditions });
    try {
      await this.#object({ method: 'DELETE', path: objectPath(type, name), body, signal });
      return true;
    } catch (error) {
      if (isReason(error, 'NotFound')) return false;
      throw error;
    }
  }

  async version(signal?: AbortSignal): Promise<{ major: number; minor: number; gitVersion: string }> {
    const body = await this.#object({ method: 'GET', path: '/version', signal });
    const number = (name: string): number => Number.parseInt(asString(field(body, name)) ?? '', 10);
    const [major, minor] = [number('major'), number('minor')];
    if (Number.isNaN(major) || Number.isNaN(minor)) throw malformed('GET /version', 'the answer names no version');
    return { major, minor, gitVersion: asString(field(body, 'gitVersion')) ?? `v${major}.${minor}` };
  }

  async discover(groupVersion: string, signal?: AbortSignal): Promise<readonly ResourceType[] | null> {
    const path = groupVersionPath(groupVersion);
    try {
      const resources = field(await this.#object({ method: 'GET', path, signal }), 'resources');
      if (!isList(resources)) throw malformed(`GET ${path}`, 'the answer lists no resources');
      return resources.flatMap((resource) => discovered(asObject(resource), groupVersion) ?? []);
    } catch (error) {
      if (isReason(error, 'NotFound')) return null;
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  #write(type: ResourceType, call: Omit<Call, 'timeoutMs'>): Promise<JsonObject> {
    return this.#object({ ...call, confidential: CONFIDENTIAL.includes(type.kind) });
  }

  async #object(
    call: Omit<Call, 'timeoutMs'> & { readonly timeoutMs?: number; readonly maxBytes?: number },
  ): Promise<JsonObject> {
    const text = await this.#transport.call({
      timeoutMs: this.#timings.requestMs,
      maxBytes: MAX_OBJECT_BYTES,
      ...call,
    });
    return parseObject(text) ?? fail(malformed(`${call.method} ${call.path}`, 'the answer is no JSON object'));
  }
}

function pathOf(type: ResourceType, name: ObjectName, { subresource }: WriteOptions): string {
  const path = objectPath(type, name);
  return subresource === undefined ? path : `${path}/${subresource}`;
}

function writeQuery({ fieldManager = 'postern', dryRun }: WriteOptions): {
  readonly [name: string]: string | undefined;
} {
  return { fieldManager, dryRun: dryRun === true ? 'All' : undefined };
}

/** Items of a list of built-in types do not say what they are. */
function typed(item: JsonValue, type: ResourceType, what: string): JsonObject {
  const object = asObject(item) ?? fail(malformed(what, 'an item of the list is no object'));
  if (Object.hasOwn(object, 'kind')) return object;
  return { apiVersion: groupVersionOf(type), kind: type.kind, ...object };
}

/** Null for a subresource (`pods/log`), and for what does not say what it is. */
function discovered(resource: JsonObject | null, groupVersion: string): ResourceType | null {
  const plural = asString(field(resource, 'name')) ?? '';
  const kind = asString(field(resource, 'kind')) ?? '';
  if (plural === '' || kind === '' || plural.includes('/')) return null;
  const [group, version] = groupVersion.includes('/') ? groupVersion.split('/') : ['', groupVersion];
  return {
    group: group ?? '',
    version: version ?? '',
    kind,
    plural,
    namespaced: field(resource, 'namespaced') === true,
  };
}

function malformed(what: string, why: string): KubernetesError {
  return new KubernetesError('Malformed', 0, `${what}: ${why}; is this a Kubernetes API?`);
}

function fail(error: Error): never {
  throw error;
}
