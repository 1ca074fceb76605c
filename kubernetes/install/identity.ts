import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';

/** What an object is and where; what two manifests of one object have in common. */
export interface Identity {
  readonly apiVersion: string;
  readonly kind: string;
  /** Empty for cluster-scoped objects. */
  readonly namespace: string;
  readonly name: string;
}

export function identityOf(object: JsonObject): Identity {
  const metadata = asObject(field(object, 'metadata'));
  const text = (from: JsonObject | null, key: string): string => asString(field(from, key)) ?? '';
  return {
    apiVersion: text(object, 'apiVersion'),
    kind: text(object, 'kind'),
    namespace: text(metadata, 'namespace'),
    name: text(metadata, 'name'),
  };
}

/** `Deployment postern-system/postern-control-plane`. */
export function titleOf({ kind, namespace, name }: Identity): string {
  return `${kind} ${namespace === '' ? '' : `${namespace}/`}${name}`;
}

export function isSame(a: Identity, b: Identity): boolean {
  return a.apiVersion === b.apiVersion && titleOf(a) === titleOf(b);
}
