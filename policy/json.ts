import type { JsonObject, JsonValue } from './types.ts';

/** The object, or null where the value is anything else. */
export function asObject(value: JsonValue | undefined): JsonObject | null {
  return value !== null && typeof value === 'object' && !isList(value) ? value : null;
}

/** `Array.isArray` does not narrow away a readonly array; this does. */
export function isList(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

export function asString(value: JsonValue | undefined): string | null {
  return typeof value === 'string' ? value : null;
}

/** Own properties only: a key such as `constructor` finds nothing that was not written. */
export function field(object: JsonObject | null, name: string): JsonValue | undefined {
  return object !== null && Object.hasOwn(object, name) ? object[name] : undefined;
}

/** Kubernetes takes `null` for absent. */
export function isAbsent(value: JsonValue | undefined): value is null | undefined {
  return value === undefined || value === null;
}

/** The strings of a map of strings; entries of another type are left out. */
export function stringMap(value: JsonValue | undefined): ReadonlyMap<string, string> {
  const strings = new Map<string, string>();
  for (const [key, entry] of Object.entries(asObject(value) ?? {})) {
    if (typeof entry === 'string') strings.set(key, entry);
  }
  return strings;
}
