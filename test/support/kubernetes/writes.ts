import type { JsonObject } from '../../../policy/types.ts';
import { withServerDefaults } from './defaults.ts';
import { at, finalizersOf, isDeleting, nameOf, timestamp, versionOf, withFields, withMeta } from './objects.ts';
import { schemaChecked } from './schema.ts';
import type { ServiceAddresses } from './service-addresses.ts';
import { ApiFailure, alreadyExists, badRequest, invalid, notFound, staleVersion, wrong } from './status.ts';
import { type Entry, newUid, type Store } from './store.ts';
import { apiVersionOf, type ServedType } from './type-registry.ts';
import { kindCauses, metadataCauses } from './validation.ts';
import {
  isSame,
  kept,
  ownedBy,
  type Preconditions,
  placed,
  podGrace,
  refuseOther,
  type WriteRequest,
  withGeneratedName,
  withGeneration,
} from './write-rules.ts';

/** What stands between a decoded object and the store: admission webhooks. */
export interface Admission {
  mutate(request: WriteRequest, operation: Operation, object: JsonObject, old: JsonObject | null): Promise<JsonObject>;
  validate(
    request: WriteRequest,
    operation: Operation,
    object: JsonObject | null,
    old: JsonObject | null,
  ): Promise<void>;
}

export type Operation = 'CREATE' | 'UPDATE' | 'DELETE';

const MAX_ATTEMPTS = 5;

/** Kinds that are replaced only by one who names the version that is replaced. */
const CONDITIONAL: readonly string[] = ['coordination.k8s.io/leases', 'apiextensions.k8s.io/customresourcedefinitions'];

/** Creates, updates and deletes as the API server does: defaults, admission, validation, optimistic concurrency, finalizers. */
export class Writes {
  readonly #store: Store;
  readonly #addresses: ServiceAddresses;
  readonly #admission: Admission;
  readonly #now: () => number;

  /** @param now The server's clock, Unix time in milliseconds. */
  constructor(store: Store, addresses: ServiceAddresses, admission: Admission, now: () => number) {
    this.#store = store;
    this.#now = now;
    this.#addresses = addresses;
    this.#admission = admission;
  }

  async create(request: WriteRequest, sent: JsonObject): Promise<JsonObject> {
    const { type } = request;
    this.#requireNamespace(type, request.namespace);
    const named = withGeneratedName(placed(request, sent));
    if (nameOf(named) === '')
      throw invalid(type, '', [
        {
          reason: 'FieldValueRequired',
          message: 'Required value: name or generateName is required',
          field: 'metadata.name',
        },
      ]);
    if (versionOf(named) !== '') throw badRequest('resourceVersion should not be set on objects to be created');
    // What a client says of a status counts for nothing before there is an object.
    const wanted = type.subresources.includes('status') ? withFields(named, { status: undefined }) : named;
    const bare = withMeta(wanted, {
      uid: newUid(),
      creationTimestamp: timestamp(this.#now()),
      deletionTimestamp: undefined,
      deletionGracePeriodSeconds: undefined,
      generation: 1,
    });
    const mutated = await this.#admission.mutate(request, 'CREATE', this.#prepared(request, bare), null);
    const object = this.#addresses.assigned(type.storage, this.#prepared(request, mutated), null);
    const name = nameOf(object);
    this.#validated(type, object, null);
    await this.#admission.validate(request, 'CREATE', object, null);
    if (this.#store.get(type.storage, request.namespace, name) !== null) throw alreadyExists(type, name);
    const owned = ownedBy(request, null, object);
    return request.dryRun
      ? withMeta(owned, { resourceVersion: undefined })
      : this.#store.put(type.storage, owned).object;
  }

  /**
   * `change` makes the new object from the present one, in the version of the request; it is called again where another write came between.
   * @throws ApiFailure 404, 409, 422; also what `change` throws.
   */
  async update(request: WriteRequest, change: (current: JsonObject) => JsonObject): Promise<JsonObject> {
    const { type, namespace, name } = request;
    for (let attempt = 1; ; attempt++) {
      const current = this.#store.get(type.storage, namespace, name);
      if (current === null) throw notFound(type, name);
      const sent = change(current.in(apiVersionOf(type)));
      const version = versionOf(sent);
      if (version !== '' && version !== String(current.revision)) throw staleVersion(type, name);
      const object = await this.#next(request, current, sent);
      if (isSame(current.object, object)) return current.in(apiVersionOf(type));
      if (request.dryRun) return object;
      // Admission took time. Where another wrote meanwhile, a replacement that names its version fails in the next round, a patch is made anew.
      if (this.#store.get(type.storage, namespace, name) === current) return this.#commit(type, object);
      if (attempt === MAX_ATTEMPTS) throw staleVersion(type, name);
    }
  }

  /** A replacement by PUT: some kinds ask for the version that is replaced. */
  requireVersion(request: WriteRequest, sent: JsonObject): void {
    const { type } = request;
    if (versionOf(sent) !== '' || !(type.custom || CONDITIONAL.includes(type.storage))) return;
    throw invalid(type, request.name, [wrong('metadata.resourceVersion', '', 'must be specified for an update')]);
  }

  /** The object where it stays for a while (finalizers, a pod's grace period), else null. */
  async delete(
    request: WriteRequest,
    preconditions: Preconditions,
    graceSeconds: number | null,
  ): Promise<{ readonly object: JsonObject; readonly gone: boolean }> {
    const { type, namespace, name } = request;
    const current = this.#store.get(type.storage, namespace, name);
    if (current === null) throw notFound(type, name);
    refuseOther(type, current, preconditions);
    await this.#admission.validate(request, 'DELETE', null, current.object);
    const { object } = current;
    const grace = type.storage === '/pods' ? podGrace(object, graceSeconds) : 0;
    if (request.dryRun) return { object, gone: true };
    const stays = grace > 0 || finalizersOf(object).length > 0 || type.storage === '/namespaces';
    if (!stays) return { object: this.#store.remove(type.storage, namespace, name)?.object ?? object, gone: true };
    const known = Number(at(object, 'metadata', 'deletionGracePeriodSeconds') ?? Number.POSITIVE_INFINITY);
    if (isDeleting(object) && grace >= known) return { object, gone: false };
    const marked = withMeta(object, {
      deletionTimestamp: timestamp(this.#now() + grace * 1000),
      deletionGracePeriodSeconds: grace,
      generation: Number(at(object, 'metadata', 'generation') ?? 1) + 1,
    });
    const ending = type.storage === '/namespaces' ? { ...marked, status: { phase: 'Terminating' } } : marked;
    return { object: this.#commit(type, ending), gone: false };
  }

  async #next(request: WriteRequest, current: Entry, sent: JsonObject): Promise<JsonObject> {
    const { type, subresource } = request;
    const before = current.object;
    const changed = this.#prepared(request, kept(type, before, placed(request, sent), subresource));
    const mutated = await this.#admission.mutate(request, 'UPDATE', changed, before);
    const prepared = this.#prepared(request, kept(type, before, mutated, subresource));
    const object = this.#addresses.assigned(type.storage, withGeneration(before, prepared), before);
    this.#validated(type, object, before);
    await this.#admission.validate(request, 'UPDATE', object, before);
    return ownedBy(request, before, object);
  }

  #commit(type: ServedType, object: JsonObject): JsonObject {
    const entry = this.#store.put(type.storage, object);
    const grace = Number(at(object, 'metadata', 'deletionGracePeriodSeconds') ?? 0);
    if (isDeleting(object) && finalizersOf(object).length === 0 && grace === 0 && type.storage !== '/namespaces') {
      this.#store.remove(type.storage, entry.namespace, entry.name);
    }
    return entry.object;
  }

  #prepared({ type, fieldValidation, warn }: WriteRequest, object: JsonObject): JsonObject {
    return withServerDefaults(type.storage, schemaChecked(type, object, fieldValidation, warn));
  }

  #validated(type: ServedType, object: JsonObject, before: JsonObject | null): void {
    const causes = [...metadataCauses(type, object), ...kindCauses(type.storage, object, before)];
    if (causes.length > 0) throw invalid(type, nameOf(object), causes);
  }

  #requireNamespace(type: ServedType, namespace: string): void {
    if (!type.namespaced) return;
    const home = this.#store.get('/namespaces', '', namespace);
    if (home === null) {
      throw new ApiFailure('NotFound', `namespaces "${namespace}" not found`, {
        details: { name: namespace, kind: 'namespaces' },
      });
    }
    if (!isDeleting(home.object)) return;
    throw new ApiFailure(
      'Forbidden',
      `unable to create new content in namespace ${namespace} because it is being terminated`,
      {
        details: {
          causes: [
            {
              reason: 'NamespaceTerminating',
              message: `namespace ${namespace} is being terminated`,
              field: 'metadata.namespace',
            },
          ],
        },
      },
    );
  }
}
