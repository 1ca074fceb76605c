import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';

/** What the API compares at a write, opaque; null where the object has none. */
export function resourceVersionOf(object: JsonObject): string | null {
  const version = asString(field(asObject(field(object, 'metadata')), 'resourceVersion'));
  return version === '' ? null : version;
}
