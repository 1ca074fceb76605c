import type { IncomingMessage, ServerResponse } from 'node:http';
import { asObject, asString, field } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { contentType, readJson, readObject, sendJson, sendText, warningHeader } from './http.ts';
import { type Lists, listText, selectorOf } from './lists.ts';
import { at, nameOf, textAt, uidOf, withMeta } from './objects.ts';
import { jsonPatch, mergePatch } from './patch.ts';
import type { Rbac } from './rbac.ts';
import { isTrue, type RequestInfo } from './request-info.ts';
import type { Reviews } from './reviews.ts';
import { applyFields } from './server-side-apply.ts';
import { badRequest, methodNotAllowed, noSuchPath, notFound } from './status.ts';
import type { Store } from './store.ts';
import { strategicMerge } from './strategic-merge.ts';
import { isTableAsked, tableEvent, tableText } from './tables.ts';
import type { User } from './tokens.ts';
import { apiVersionOf, type ServedType } from './type-registry.ts';
import type { Watches } from './watches.ts';
import type { WriteRequest } from './write-rules.ts';
import type { Writes } from './writes.ts';

/** One request for a resource, from one who may make it. */
export interface ResourceRequest {
  readonly info: RequestInfo;
  readonly type: ServedType;
  readonly user: User;
  readonly query: URLSearchParams;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export interface ResourceParts {
  readonly store: Store;
  readonly lists: Lists;
  readonly watches: Watches;
  readonly writes: Writes;
  readonly reviews: Reviews;
  readonly rbac: Rbac;
}

const PATCH_TYPES = {
  'application/merge-patch+json': 'merge',
  'application/json-patch+json': 'json',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
} as const;

/** Authorization takes a Namespace to be in the namespace that it is (upstream's RequestInfo); the store has it in none. */
function inStore(asked: ResourceRequest): ResourceRequest {
  return asked.type.namespaced ? asked : { ...asked, info: { ...asked.info, namespace: '' } };
}

/** Answers requests for resources by verb. */
export class ResourceRequests {
  readonly #parts: ResourceParts;

  constructor(parts: ResourceParts) {
    this.#parts = parts;
  }

  async answer(request: ResourceRequest): Promise<void> {
    if (!isPlaced(request.info, request.type)) throw noSuchPath();
    const asked = inStore(request);
    const { info, type } = asked;
    if (info.subresource !== '' && !type.subresources.includes(info.subresource)) throw noSuchPath();
    if (info.subresource === '' && !type.verbs.includes(info.verb)) throw methodNotAllowed();
    switch (info.verb) {
      case 'get':
        this.#get(asked);
        return;
      case 'list':
        this.#list(asked);
        return;
      case 'watch':
        this.#watch(asked);
        return;
      case 'create':
        await this.#create(asked);
        return;
      case 'update':
        await this.#replace(asked);
        return;
      case 'patch':
        await this.#patch(asked);
        return;
      case 'delete':
        await this.#delete(asked);
        return;
      case 'deletecollection':
        await this.#deleteCollection(asked);
        return;
      default:
        throw methodNotAllowed();
    }
  }

  #get({ info, type, request, query, response }: ResourceRequest): void {
    const entry = this.#parts.store.get(type.storage, info.namespace, info.name);
    if (entry === null) throw notFound(type, info.name);
    const text = isTableAsked(request)
      ? tableText(type, [entry], { resourceVersion: String(entry.revision) }, query)
      : entry.text(apiVersionOf(type));
    sendText(response, 200, 'application/json', text);
  }

  #list({ info, type, query, request, response }: ResourceRequest): void {
    const page = this.#parts.lists.read({ type, namespace: scopeOf(info, type) }, query);
    const meta = {
      resourceVersion: String(page.revision),
      ...(page.next === '' ? {} : { continue: page.next, remainingItemCount: page.remaining }),
    };
    const text = isTableAsked(request)
      ? tableText(type, page.entries, meta, query)
      : listText(type, apiVersionOf(type), page);
    sendText(response, 200, 'application/json', text);
  }

  #watch({ info, type, query, request, response }: ResourceRequest): void {
    const version = apiVersionOf(type);
    const asTable = isTableAsked(request);
    this.#parts.watches.start({ type, namespace: scopeOf(info, type) }, query, response, (entry) =>
      asTable ? tableEvent(type, entry, query) : entry.text(version),
    );
  }

  async #create(asked: ResourceRequest): Promise<void> {
    const { info, type, user, request, response } = asked;
    const object = defaultedKind(type, info.subresource === 'token', await readObject(request));
    if (info.subresource === 'token') {
      sendJson(response, 201, this.#parts.reviews.tokenRequest(type, info.namespace, info.name, object));
      return;
    }
    if (info.name !== '') throw methodNotAllowed();
    const review = this.#parts.reviews.answer(type.kind, object, user);
    sendJson(response, 201, review ?? (await this.#parts.writes.create(writeRequest(asked, nameOf(object)), object)));
  }

  async #replace(asked: ResourceRequest): Promise<void> {
    const { info, type, request, response } = asked;
    const object = defaultedKind(type, false, await readObject(request));
    const write = writeRequest(asked, info.name);
    if (this.#parts.store.get(type.storage, info.namespace, info.name) !== null)
      this.#parts.writes.requireVersion(write, object);
    sendJson(response, 200, await this.#parts.writes.update(write, () => object));
  }

  async #patch(asked: ResourceRequest): Promise<void> {
    const { info, type, query, request, response } = asked;
    const accepted = Object.keys(PATCH_TYPES).filter((one) => !(type.custom && one.includes('strategic')));
    const body = await readJson(request, accepted);
    const kind = PATCH_TYPES[contentType(request) as keyof typeof PATCH_TYPES];
    const write = writeRequest(asked, info.name);
    if (kind === 'apply') {
      await this.#apply(asked, write, asObject(body) ?? {});
      return;
    }
    if (isTrue(query.get('force')) && query.has('force'))
      throw badRequest(
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch',
      );
    const patched = await this.#parts.writes.update(write, (current) => changed(kind, current, body));
    sendJson(response, 200, patched);
  }

  async #apply(asked: ResourceRequest, write: WriteRequest, body: JsonObject): Promise<void> {
    const { info, type, query, user, response } = asked;
    const name = query.get('fieldManager') ?? '';
    if (name === '')
      throw badRequest(
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
      );
    if (at(body, 'metadata', 'managedFields') !== undefined) throw badRequest('metadata.managedFields must be nil');
    const manager = { name, apiVersion: apiVersionOf(type), subresource: info.subresource };
    const force = query.get('force') === 'true';
    const named = withMeta(body, { name: nameOf(body) === '' ? info.name : nameOf(body) });
    if (this.#parts.store.get(type.storage, info.namespace, info.name) === null && info.subresource === '') {
      // An apply that creates is a create as well, and must be allowed as one.
      this.#parts.rbac.require(user, { ...info, verb: 'create' }, type);
      const empty: JsonObject = { apiVersion: apiVersionOf(type), kind: type.kind, metadata: {} };
      const created = await this.#parts.writes.create(write, applyFields(empty, named, manager, force));
      sendJson(response, 201, created);
      return;
    }
    const applied = await this.#parts.writes.update(write, (current) => {
      const version = textAt(body, 'metadata', 'resourceVersion');
      return withVersion(
        applyFields(current, withMeta(named, { resourceVersion: undefined }), manager, force),
        version,
      );
    });
    sendJson(response, 200, applied);
  }

  async #delete(asked: ResourceRequest): Promise<void> {
    const { info, type, response } = asked;
    if (info.subresource !== '') throw methodNotAllowed();
    const options = await deleteOptions(asked);
    const { object, gone } = await this.#parts.writes.delete(
      options.write(info.name),
      options.preconditions,
      options.grace,
    );
    sendJson(response, 200, gone && type.storage !== '/pods' ? deleted(type, object) : object);
  }

  async #deleteCollection(asked: ResourceRequest): Promise<void> {
    const { info, type, query, response } = asked;
    const options = await deleteOptions(asked);
    const selects = selectorOf(type.storage, query);
    const chosen = this.#parts.store.list(type.storage, scopeOf(info, type)).filter(({ object }) => selects(object));
    for (const { name, namespace } of chosen) {
      await this.#parts.writes.delete({ ...options.write(name), namespace }, options.preconditions, options.grace);
    }
    sendJson(response, 200, {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Success',
      details: { kind: type.plural },
    });
  }
}

/** Whether the path has a namespace where the kind has one; lists and watches may go over all of them. */
function isPlaced({ namespace, verb, resource }: RequestInfo, type: ServedType): boolean {
  if (!type.namespaced) return namespace === '' || resource === 'namespaces';
  return namespace !== '' || verb === 'list' || verb === 'watch';
}

/** Null: all namespaces. */
const scopeOf = ({ namespace }: RequestInfo, type: ServedType): string | null =>
  type.namespaced && namespace === '' ? null : namespace;

function changed(kind: 'merge' | 'json' | 'strategic', current: JsonObject, body: JsonValue): JsonObject {
  if (kind === 'json') return jsonPatch(current, body);
  if (asObject(body) === null) throw badRequest('a patch of this kind must be an object');
  return (
    asObject(kind === 'merge' ? mergePatch(current, body) : strategicMerge(current, asObject(body) ?? {})) ?? current
  );
}

/** Where the applied configuration names a version, that must be the present one. */
const withVersion = (object: JsonObject, version: string): JsonObject =>
  version === '' ? object : withMeta(object, { resourceVersion: version });

function writeRequest({ info, type, user, query, request, response }: ResourceRequest, name: string): WriteRequest {
  const agent = (request.headers['user-agent'] ?? 'unknown').split('/', 1)[0] ?? 'unknown';
  const warnings: string[] = [];
  return {
    type,
    namespace: type.namespaced ? info.namespace : '',
    name,
    subresource: info.subresource,
    user,
    manager: query.get('fieldManager') ?? agent,
    applied: contentType(request) === 'application/apply-patch+yaml',
    dryRun: query.get('dryRun') === 'All',
    fieldValidation: query.get('fieldValidation') ?? 'Warn',
    warn: (text) => {
      if (warnings.includes(text)) return;
      warnings.push(text);
      response.setHeader('warning', warnings.map(warningHeader));
    },
  };
}

/** Clients may leave the kind of a body to the path. */
function defaultedKind(type: ServedType, isOther: boolean, object: JsonObject): JsonObject {
  if (isOther || object.kind !== undefined || object.apiVersion !== undefined) return object;
  return { ...object, kind: type.kind, apiVersion: apiVersionOf(type) };
}

async function deleteOptions(asked: ResourceRequest): Promise<{
  readonly write: (name: string) => WriteRequest;
  readonly preconditions: { readonly uid: string; readonly resourceVersion: string };
  readonly grace: number | null;
}> {
  const body = asObject(await readJson(asked.request, ['application/json', 'application/yaml']));
  const asText = (name: string): string =>
    asString(field(asObject(at(body ?? undefined, 'preconditions') ?? null), name)) ?? '';
  const grace = at(body ?? undefined, 'gracePeriodSeconds') ?? asked.query.get('gracePeriodSeconds');
  const dryRun = asked.query.get('dryRun') === 'All' || JSON.stringify(at(body ?? undefined, 'dryRun')) === '["All"]';
  return {
    write: (name) => ({ ...writeRequest(asked, name), dryRun }),
    preconditions: { uid: asText('uid'), resourceVersion: asText('resourceVersion') },
    grace: grace === null || grace === undefined ? null : Number(grace),
  };
}

function deleted(type: ServedType, object: JsonObject): JsonObject {
  const group = type.group === '' ? {} : { group: type.group };
  const details = { name: nameOf(object), ...group, kind: type.plural, uid: uidOf(object) };
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
}
