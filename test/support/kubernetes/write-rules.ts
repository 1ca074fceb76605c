import { isDeepStrictEqual } from 'node:util';
import { asObject } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { at, metaOf, nameOf, namespaceOf, textAt, uidOf, withFields, withMeta } from './objects.ts';
import { ownUpdated } from './server-side-apply.ts';
import { badRequest, conflict } from './status.ts';
import type { Entry } from './store.ts';
import type { User } from './tokens.ts';
import { apiVersionOf, type ServedType } from './type-registry.ts';

/** What all writes have in common. */
export interface WriteRequest {
  readonly type: ServedType;
  /** Empty for kinds of the cluster. */
  readonly namespace: string;
  /** Empty for a create, whose object names itself. */
  readonly name: string;
  readonly subresource: string;
  readonly user: User;
  readonly manager: string;
  /** By server-side apply: who owns what is settled already. */
  readonly applied: boolean;
  readonly dryRun: boolean;
  readonly fieldValidation: string;
  /** Becomes a Warning header. */
  readonly warn: (text: string) => void;
}

export interface Preconditions {
  readonly uid: string;
  readonly resourceVersion: string;
}

/** Letters of generated names: none that could make a word. */
const SUFFIX = 'bcdfghjklmnpqrstvwxz2456789';

/** The object where the request puts it. @throws ApiFailure 400 where it says otherwise. */
export function placed({ type, namespace, name }: WriteRequest, sent: JsonObject): JsonObject {
  const expected = apiVersionOf(type);
  if (textAt(sent, 'kind') !== type.kind || textAt(sent, 'apiVersion') !== expected) {
    throw badRequest(
      `the object provided is unrecognized (must be of type ${type.kind}): no kind "${textAt(sent, 'kind')}" is registered for version "${textAt(sent, 'apiVersion')}"`,
    );
  }
  if (namespaceOf(sent) !== '' && namespaceOf(sent) !== namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  }
  if (name !== '' && nameOf(sent) !== name) {
    throw badRequest(`the name of the object (${nameOf(sent)}) does not match the name on the URL (${name})`);
  }
  return withMeta(sent, { namespace: namespace === '' ? undefined : namespace });
}

export function withGeneratedName(object: JsonObject): JsonObject {
  const prefix = textAt(object, 'metadata', 'generateName');
  if (nameOf(object) !== '' || prefix === '') return object;
  const suffix = Array.from({ length: 5 }, () => SUFFIX[Math.floor(Math.random() * SUFFIX.length)]).join('');
  return withMeta(object, { name: `${prefix}${suffix}` });
}

/** What a write of this subresource cannot change stays as it was. */
export function kept(type: ServedType, before: JsonObject, sent: JsonObject, subresource: string): JsonObject {
  if (subresource === 'status') {
    const managed = at(sent, 'metadata', 'managedFields');
    return withFields(
      withMeta(
        { ...before, apiVersion: sent.apiVersion ?? '' },
        managed === undefined ? {} : { managedFields: managed },
      ),
      { status: at(sent, 'status') },
    );
  }
  if (uidOf(sent) !== '' && uidOf(sent) !== uidOf(before)) {
    throw conflict(
      type,
      nameOf(before),
      `Precondition failed: UID in precondition: ${uidOf(sent)}, UID in object meta: ${uidOf(before)}`,
    );
  }
  const system = [
    'uid',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'generation',
    'resourceVersion',
  ];
  const meta = withMeta(sent, Object.fromEntries(system.map((field) => [field, at(metaOf(before), field)])));
  return type.subresources.includes('status') ? withFields(meta, { status: at(before, 'status') }) : meta;
}

export function withGeneration(before: JsonObject, after: JsonObject): JsonObject {
  const content = (object: JsonObject): JsonObject =>
    withFields(object, { metadata: undefined, status: undefined, apiVersion: undefined });
  const generation = Number(at(before, 'metadata', 'generation') ?? 1);
  return withMeta(after, {
    generation: isDeepStrictEqual(content(before), content(after)) ? generation : generation + 1,
  });
}

export function ownedBy(
  { type, manager, subresource, applied }: WriteRequest,
  before: JsonObject | null,
  after: JsonObject,
): JsonObject {
  if (applied) return after;
  return ownUpdated(before, after, { name: manager, apiVersion: apiVersionOf(type), subresource });
}

/** A write that changes nothing but who owns what when is none. */
export function isSame(before: JsonObject, after: JsonObject): boolean {
  const bare = (object: JsonObject): JsonObject =>
    withFields(object, { apiVersion: undefined, metadata: withFields(metaOf(object), { resourceVersion: undefined }) });
  return isDeepStrictEqual(bare(before), bare(after));
}

export function refuseOther(type: ServedType, current: Entry, { uid, resourceVersion }: Preconditions): void {
  const actual = uidOf(current.object);
  if (uid !== '' && uid !== actual) {
    throw conflict(
      type,
      current.name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${actual}`,
    );
  }
  if (resourceVersion !== '' && resourceVersion !== String(current.revision)) {
    throw conflict(
      type,
      current.name,
      `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${current.revision}`,
    );
  }
}

/** Seconds: a pod on a node goes when its kubelet has stopped it. */
export function podGrace(pod: JsonObject, asked: number | null): number {
  const phase = textAt(pod, 'status', 'phase');
  if (textAt(pod, 'spec', 'nodeName') === '' || phase === 'Succeeded' || phase === 'Failed') return 0;
  return asked ?? Number(at(asObject(pod.spec ?? null) ?? {}, 'terminationGracePeriodSeconds') ?? 30);
}
