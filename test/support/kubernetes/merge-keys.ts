import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at } from './objects.ts';

/**
 * Lists whose elements are known by one of their fields, by the name of the list; every other list is one value. Upstream has this in each type's
 * schema; here names must do, and they do for what our manifests and pods hold. Lists of custom kinds are atomic as they are upstream by default, but
 * for conditions.
 */
const BY_FIELD: { readonly [list: string]: string } = {
  containers: 'name',
  initContainers: 'name',
  ephemeralContainers: 'name',
  env: 'name',
  volumes: 'name',
  volumeMounts: 'mountPath',
  imagePullSecrets: 'name',
  hostAliases: 'ip',
  podIPs: 'ip',
  conditions: 'type',
  ownerReferences: 'uid',
  webhooks: 'name',
};

/** The field that tells the elements of a list apart; null where the list is atomic. */
export function mergeKey(listName: string, elements: readonly JsonValue[]): string | null {
  if (listName === 'ports') return portKey(elements);
  const key = Object.hasOwn(BY_FIELD, listName) ? BY_FIELD[listName] : undefined;
  return key !== undefined && elements.every((one) => at(one, key) !== undefined) ? key : null;
}

/** Ports of containers and of services; those of endpoint slices and network policies are atomic. */
function portKey(elements: readonly JsonValue[]): string | null {
  if (elements.length === 0) return null;
  if (elements.every((one) => at(one, 'containerPort') !== undefined)) return 'containerPort';
  const ofService = elements.some((one) => at(one, 'targetPort') !== undefined);
  return ofService && elements.every((one) => at(one, 'port') !== undefined) ? 'port' : null;
}

/** Server-side apply tells two ports of one number apart by their protocol. */
export function identityOf(key: string, element: JsonValue): JsonObject {
  const value = at(element, key) ?? '';
  if (key !== 'port' && key !== 'containerPort') return { [key]: value };
  return { [key]: value, protocol: at(element, 'protocol') ?? 'TCP' };
}

export const isPrimitiveSet = (listName: string): boolean => listName === 'finalizers';

export const sameElement = (key: string, a: JsonValue, b: JsonValue): boolean =>
  asObject(a) !== null && JSON.stringify(identityOf(key, a)) === JSON.stringify(identityOf(key, b));
