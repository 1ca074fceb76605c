import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, labelsOf, nameOf, objectsAt, textAt, textsAt } from './objects.ts';
import { jsonPatch } from './patch.ts';
import { userInfo } from './reviews.ts';
import { matchesLabels } from './selectors.ts';
import { ApiFailure, badRequest } from './status.ts';
import { newUid, type Store } from './store.ts';
import { apiVersionOf, type ServedType, type TypeRegistry } from './type-registry.ts';
import { callWebhook, type ServiceTargets } from './webhook-call.ts';
import type { WriteRequest } from './write-rules.ts';
import type { Admission, Operation } from './writes.ts';

export type { ServiceTargets } from './webhook-call.ts';

const GROUP = 'admissionregistration.k8s.io';
const MUTATING = `${GROUP}/mutatingwebhookconfigurations`;
const VALIDATING = `${GROUP}/validatingwebhookconfigurations`;

interface Attempt {
  readonly request: WriteRequest;
  readonly operation: Operation;
  readonly object: JsonObject | null;
  readonly old: JsonObject | null;
}

/** A webhook that is to be asked, and the version of the kind in which it wants the object. */
interface Chosen {
  readonly webhook: JsonObject;
  readonly type: ServedType;
}

/** Asks webhooks as the configurations in the store say: mutating ones one after another, validating ones at once. */
export class AdmissionWebhooks implements Admission {
  readonly #store: Store;
  readonly #types: TypeRegistry;
  readonly #services: ServiceTargets;

  constructor(store: Store, types: TypeRegistry, services: ServiceTargets) {
    this.#store = store;
    this.#types = types;
    this.#services = services;
  }

  async mutate(
    request: WriteRequest,
    operation: Operation,
    object: JsonObject,
    old: JsonObject | null,
  ): Promise<JsonObject> {
    let result = object;
    for (const chosen of this.#chosen(MUTATING, { request, operation, object, old })) {
      const response = await this.#ask(chosen, { request, operation, object: result, old });
      if (response !== null) result = patched(chosen, result, response);
    }
    return result;
  }

  async validate(
    request: WriteRequest,
    operation: Operation,
    object: JsonObject | null,
    old: JsonObject | null,
  ): Promise<void> {
    const attempt = { request, operation, object, old };
    const results = await Promise.allSettled(this.#chosen(VALIDATING, attempt).map((one) => this.#ask(one, attempt)));
    const refused = results.find((result) => result.status === 'rejected');
    if (refused !== undefined) throw refused.reason;
  }

  #chosen(storage: string, attempt: Attempt): readonly Chosen[] {
    const { type } = attempt.request;
    // Nobody may keep others from mending a configuration.
    if (type.group === GROUP) return [];
    return this.#store.list(storage, '').flatMap(({ object }) =>
      objectsAt(object, 'webhooks').flatMap((webhook) => {
        const wanted = this.#wantedType(webhook, attempt);
        return wanted !== null && this.#selects(webhook, attempt) ? [{ webhook, type: wanted }] : [];
      }),
    );
  }

  /** The version of the kind that a rule names: that of the request, or an equivalent one. */
  #wantedType(webhook: JsonObject, attempt: Attempt): ServedType | null {
    const rules = objectsAt(webhook, 'rules');
    const { type } = attempt.request;
    const isEquivalent = textAt(webhook, 'matchPolicy') !== 'Exact';
    const others = isEquivalent ? this.#types.versionsOf(type.group, type.plural) : [];
    return [type, ...others].find((one) => rules.some((rule) => coversType(rule, one, attempt))) ?? null;
  }

  #selects(webhook: JsonObject, { request, object, old }: Attempt): boolean {
    const objects = [object, old].filter((one) => one !== null);
    const byObject = at(webhook, 'objectSelector');
    if (byObject !== undefined && !objects.some((one) => matchesLabels(byObject, labelsOf(one)))) return false;
    const byNamespace = at(webhook, 'namespaceSelector');
    if (byNamespace === undefined) return true;
    if (request.type.storage === '/namespaces') {
      return objects.some((one) => matchesLabels(byNamespace, labelsOf(one)));
    }
    const home = this.#store.get('/namespaces', '', request.namespace);
    // Kinds of the cluster are in no namespace, and no selector leaves them out.
    return !request.type.namespaced || (home !== null && matchesLabels(byNamespace, labelsOf(home.object)));
  }

  /** The response that allows it; null where the webhook cannot be asked and does not matter. @throws ApiFailure that refuses. */
  async #ask(chosen: Chosen, attempt: Attempt): Promise<JsonObject | null> {
    const { webhook } = chosen;
    const name = textAt(webhook, 'name');
    if (attempt.request.dryRun && !['None', 'NoneOnDryRun'].includes(textAt(webhook, 'sideEffects'))) {
      throw badRequest(`admission webhook "${name}" does not support dry run`);
    }
    const review = reviewOf(chosen, attempt);
    const uid = textAt(review, 'request', 'uid');
    let response: JsonObject;
    try {
      response = responseOf(await callWebhook(webhook, review, this.#services), uid);
    } catch (thrown) {
      if (textAt(webhook, 'failurePolicy') === 'Ignore') return null;
      const reason = thrown instanceof Error ? thrown.message : String(thrown);
      throw new ApiFailure('InternalError', `Internal error occurred: failed calling webhook "${name}": ${reason}`);
    }
    for (const warning of textsAt(response, 'warnings')) attempt.request.warn(warning);
    if (response.allowed === true) return response;
    throw denied(name, at(response, 'status'));
  }
}

function coversType(rule: JsonObject, type: ServedType, { operation, request }: Attempt): boolean {
  const covers = (field: string, value: string): boolean => {
    const list = textsAt(rule, field);
    return list.includes('*') || list.includes(value);
  };
  const scope = textAt(rule, 'scope');
  if (scope !== '' && scope !== '*' && (scope === 'Namespaced') !== type.namespaced) return false;
  const resource = request.subresource === '' ? type.plural : `${type.plural}/${request.subresource}`;
  const resources = textsAt(rule, 'resources');
  const isCovered =
    resources.includes('*/*') ||
    resources.includes(resource) ||
    (request.subresource === ''
      ? resources.includes('*')
      : resources.includes(`${type.plural}/*`) || resources.includes(`*/${request.subresource}`));
  return (
    isCovered &&
    covers('operations', operation) &&
    covers('apiGroups', type.group) &&
    covers('apiVersions', type.version)
  );
}

function reviewOf({ type: wanted }: Chosen, { request, operation, object, old }: Attempt): JsonObject {
  const { type, namespace, name, subresource, user, dryRun } = request;
  const kind = (one: ServedType): JsonObject => ({ group: one.group, version: one.version, kind: one.kind });
  const resource = (one: ServedType): JsonObject => ({ group: one.group, version: one.version, resource: one.plural });
  const inVersion = (one: JsonObject | null): JsonObject | null => one && { ...one, apiVersion: apiVersionOf(wanted) };
  const options = { CREATE: 'CreateOptions', UPDATE: 'UpdateOptions', DELETE: 'DeleteOptions' }[operation];
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: newUid(),
      kind: kind(wanted),
      resource: resource(wanted),
      ...(subresource === '' ? {} : { subResource: subresource, requestSubResource: subresource }),
      requestKind: kind(type),
      requestResource: resource(type),
      name: name === '' && object !== null ? nameOf(object) : name,
      ...(namespace === '' ? {} : { namespace }),
      operation,
      userInfo: userInfo(user),
      object: inVersion(object),
      oldObject: inVersion(old),
      dryRun,
      options: { kind: options, apiVersion: 'meta.k8s.io/v1', ...(dryRun ? { dryRun: ['All'] } : {}) },
    },
  };
}

/** @throws Error where it is no answer to the review with this UID. */
function responseOf(review: JsonValue, uid: string): JsonObject {
  const kind = [textAt(review, 'apiVersion'), textAt(review, 'kind')].join(', ');
  if (kind !== 'admission.k8s.io/v1, AdmissionReview') {
    throw new Error(
      `received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got ${kind}`,
    );
  }
  const response = asObject(at(review, 'response') ?? null);
  if (response === null) throw new Error('received invalid webhook response: webhook response was absent');
  if (response.uid !== uid) {
    throw new Error(
      `received invalid webhook response: expected response.uid="${uid}", got ${JSON.stringify(response.uid)}`,
    );
  }
  return response;
}

function patched({ webhook, type }: Chosen, object: JsonObject, response: JsonObject): JsonObject {
  const patch = textAt(response, 'patch');
  if (patch === '') return object;
  const name = textAt(webhook, 'name');
  if (textAt(response, 'patchType') !== 'JSONPatch') {
    throw new ApiFailure(
      'InternalError',
      `Internal error occurred: admission webhook "${name}" returned patch without patchType JSONPatch`,
    );
  }
  const operations = JSON.parse(Buffer.from(patch, 'base64').toString()) as JsonValue;
  const result = jsonPatch({ ...object, apiVersion: apiVersionOf(type) }, operations);
  return { ...result, apiVersion: object.apiVersion ?? '' };
}

function denied(name: string, status: JsonValue | undefined): ApiFailure {
  const message = textAt(status, 'message') || textAt(status, 'reason');
  const why = message === '' ? 'denied the request without explanation' : `denied the request: ${message}`;
  const code = Math.max(400, Number(at(status, 'code') ?? 400));
  const details = asObject(at(status, 'details') ?? null);
  const reason = textAt(status, 'reason') as 'Forbidden' | '';
  return new ApiFailure(reason, `admission webhook "${name}" ${why}`, {
    code,
    ...(details === null ? {} : { details }),
  });
}
