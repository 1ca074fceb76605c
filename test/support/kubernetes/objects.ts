import { asObject, asString, field, stringMap } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';

/** Objects of the API are JSON that is never changed in place: each write makes a new one, which shares what stayed the same. */

export const metaOf = (object: JsonObject): JsonObject => asObject(field(object, 'metadata')) ?? {};
export const nameOf = (object: JsonObject): string => asString(field(metaOf(object), 'name')) ?? '';
export const namespaceOf = (object: JsonObject): string => asString(field(metaOf(object), 'namespace')) ?? '';
export const uidOf = (object: JsonObject): string => asString(field(metaOf(object), 'uid')) ?? '';
export const versionOf = (object: JsonObject): string => asString(field(metaOf(object), 'resourceVersion')) ?? '';
export const labelsOf = (object: JsonObject): ReadonlyMap<string, string> => stringMap(field(metaOf(object), 'labels'));
export const isDeleting = (object: JsonObject): boolean => at(object, 'metadata', 'deletionTimestamp') !== undefined;

export function finalizersOf(object: JsonObject): readonly string[] {
  return listAt(object, 'metadata', 'finalizers').filter((one) => typeof one === 'string');
}

/** The value at a path of field names; undefined where there is none, or null. */
export function at(object: JsonValue | undefined, ...path: readonly string[]): JsonValue | undefined {
  let value = object;
  for (const name of path) value = field(asObject(value), name);
  return value ?? undefined;
}

export const textAt = (object: JsonValue | undefined, ...path: readonly string[]): string =>
  asString(at(object, ...path)) ?? '';

export function listAt(object: JsonValue | undefined, ...path: readonly string[]): readonly JsonValue[] {
  const value = at(object, ...path);
  return Array.isArray(value) ? value : [];
}

export function objectsAt(object: JsonValue | undefined, ...path: readonly string[]): readonly JsonObject[] {
  return listAt(object, ...path)
    .map(asObject)
    .filter((one) => one !== null);
}

export const textsAt = (object: JsonValue | undefined, ...path: readonly string[]): readonly string[] =>
  listAt(object, ...path).filter((one) => typeof one === 'string');

/** The object with these fields; those that are undefined are taken away. */
export function withFields(object: JsonObject, fields: { readonly [name: string]: JsonValue | undefined }): JsonObject {
  const result: { [name: string]: JsonValue } = { ...object };
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) delete result[name];
    else result[name] = value;
  }
  return result;
}

export function withMeta(object: JsonObject, fields: { readonly [name: string]: JsonValue | undefined }): JsonObject {
  return { ...object, metadata: withFields(metaOf(object), fields) };
}

/** `fields` where the object has nothing of that name. */
export function withDefaults(object: JsonObject, fields: JsonObject): JsonObject {
  const missing = Object.entries(fields).filter(([name]) => at(object, name) === undefined);
  return missing.length === 0 ? object : { ...object, ...Object.fromEntries(missing) };
}

/** Metav1.Time: whole seconds. */
export const timestamp = (ms: number = Date.now()): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
