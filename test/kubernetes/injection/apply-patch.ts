import type { JsonObject, JsonValue } from '../../../policy/types.ts';

/** RFC 6902 by the letter, as an API server applies it; for tests. @throws where an operation does not apply. */
export function applyPatch(document: JsonValue, patch: readonly JsonObject[]): JsonValue {
  let result: unknown = structuredClone(document);
  for (const { op, path, value } of patch) {
    const parts = String(path)
      .split('/')
      .slice(1)
      .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = parts.pop();
    if (last === undefined) {
      result = structuredClone(value);
      continue;
    }
    let parent = result;
    for (const part of parts) {
      if (typeof parent !== 'object' || parent === null || !Object.hasOwn(parent, part)) throw new Error(`no ${path}`);
      parent = (parent as Record<string, unknown>)[part];
    }
    applyAt(parent, last, String(op), structuredClone(value));
  }
  return result as JsonValue;
}

function applyAt(parent: unknown, key: string, op: string, value: unknown): void {
  if (Array.isArray(parent)) {
    const index = Number(key);
    if (!/^(0|[1-9][0-9]*)$/.test(key) || index > parent.length - (op === 'add' ? 0 : 1)) throw new Error(`no ${key}`);
    if (op === 'remove') parent.splice(index, 1);
    else parent.splice(index, op === 'add' ? 0 : 1, value);
    return;
  }
  if (typeof parent !== 'object' || parent === null) throw new Error(`no parent of ${key}`);
  if (op !== 'add' && !Object.hasOwn(parent, key)) throw new Error(`no ${key}`);
  if (op === 'remove') delete (parent as Record<string, unknown>)[key];
  else Object.defineProperty(parent, key, { value, enumerable: true, configurable: true, writable: true });
}
