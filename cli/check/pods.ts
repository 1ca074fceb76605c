import { annotationsOf } from '../../kubernetes/injection/pod.ts';
import { INJECTED } from '../../kubernetes/injection/types.ts';
import { identityOf } from '../../kubernetes/install/identity.ts';
import { asObject, asString, field, stringMap } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import type { Facts } from './facts.ts';

/** Pods and namespaces as checks see them. */

export const nameOf = (object: JsonObject): string => identityOf(object).name;
export const namespaceOf = (object: JsonObject): string => identityOf(object).namespace;

/** `shop/orders-7d9f`. */
export function placeOf(object: JsonObject): string {
  const { namespace, name } = identityOf(object);
  return namespace === '' ? name : `${namespace}/${name}`;
}

export function labelsOf(object: JsonObject): { readonly [label: string]: string } {
  return Object.fromEntries(stringMap(field(asObject(field(object, 'metadata')), 'labels')));
}

export const isInjected = (pod: JsonObject): boolean => annotationsOf(pod).has(INJECTED.statusAnnotation);

/** Neither ended nor on its way out. */
export function isAlive(pod: JsonObject): boolean {
  const phase = field(asObject(field(pod, 'status')), 'phase');
  const deleted = field(asObject(field(pod, 'metadata')), 'deletionTimestamp');
  return phase !== 'Succeeded' && phase !== 'Failed' && (deleted === undefined || deleted === null);
}

/** What the injector noted on a pod; null where that cannot be read. */
export function injectionOf(pod: JsonObject): { readonly version: string; readonly image: string } | null {
  try {
    const status = asObject(JSON.parse(annotationsOf(pod).get(INJECTED.statusAnnotation) ?? '') as JsonValue);
    const [version, image] = [asString(field(status, 'version')), asString(field(status, 'image'))];
    return version === null || image === null ? null : { version, image };
  } catch {
    return null;
  }
}

/** Namespaces in which there is a living pod with a sidecar. */
export function namespacesWithSidecars(facts: Facts): ReadonlySet<string> {
  const pods = facts.pods.ok ? facts.pods.value : [];
  return new Set(pods.filter((pod) => isInjected(pod) && isAlive(pod)).map(namespaceOf));
}
