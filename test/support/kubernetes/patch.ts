import { isDeepStrictEqual } from 'node:util';
import { asObject, asString, field } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { ApiFailure, badRequest } from './status.ts';

/** JSON merge patch (RFC 7386). */
export function mergePatch(target: JsonValue | undefined, patch: JsonValue): JsonValue {
  const changes = asObject(patch);
  if (changes === null) return patch;
  const result: { [name: string]: JsonValue } = { ...asObject(target) };
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(Object.hasOwn(result, name) ? result[name] : undefined, value);
  }
  return result;
}

/** JSON patch (RFC 6902). @throws ApiFailure 400 for what is no patch, 422 for one that does not fit. */
export function jsonPatch(target: JsonObject, patch: JsonValue): JsonObject {
  if (!Array.isArray(patch))
    throw badRequest('error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch');
  let result: JsonValue = target;
  for (const operation of patch) result = apply(result, asObject(operation) ?? {});
  return asObject(result) ?? {};
}

const refusal = (message: string): ApiFailure =>
  new ApiFailure('Invalid', `the server rejected our request due to an error in our request: ${message}`);

function apply(target: JsonValue, operation: JsonObject): JsonValue {
  const path = pointer(asString(field(operation, 'path')));
  switch (operation.op) {
    case 'add':
      return insert(target, path, newValue(operation));
    case 'remove':
      return remove(target, path);
    case 'replace':
      read(target, path);
      return path.length === 0 ? newValue(operation) : insert(remove(target, path), path, newValue(operation));
    case 'move': {
      const from = pointer(asString(field(operation, 'from')));
      return insert(remove(target, from), path, read(target, from));
    }
    case 'copy':
      return insert(target, path, read(target, pointer(asString(field(operation, 'from')))));
    case 'test':
      if (!isDeepStrictEqual(read(target, path), newValue(operation)))
        throw refusal(`testing value ${operation.path} failed: test failed`);
      return target;
    default:
      throw badRequest(`Unexpected kind: ${String(operation.op)}`);
  }
}

function newValue(operation: JsonObject): JsonValue {
  const value = field(operation, 'value');
  if (value === undefined) throw badRequest(`a JSON patch operation ${String(operation.op)} has no value`);
  return value;
}

/** JSON pointer (RFC 6901). */
function pointer(text: string | null): readonly string[] {
  if (text === '') return [];
  if (text === null || !text.startsWith('/')) throw badRequest(`not a JSON pointer: ${JSON.stringify(text)}`);
  return text
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function indexOf(list: readonly JsonValue[], key: string, length: number): number {
  const index = key === '-' ? list.length : /^(0|[1-9]\d*)$/.test(key) ? Number(key) : Number.NaN;
  if (!(index < length)) throw refusal(`invalid index ${JSON.stringify(key)} of a list with ${list.length} elements`);
  return index;
}

function read(target: JsonValue, path: readonly string[]): JsonValue {
  let value: JsonValue | undefined = target;
  for (const key of path) {
    value = Array.isArray(value) ? value[indexOf(value, key, value.length)] : field(asObject(value), key);
    if (value === undefined) throw refusal(`missing path /${path.join('/')}`);
  }
  return value;
}

/** Calls `change` with what holds the last key, and rebuilds what is above it. */
function rebuild(
  target: JsonValue,
  path: readonly string[],
  change: (holder: JsonValue, key: string) => JsonValue,
): JsonValue {
  const [key = '', ...rest] = path;
  if (rest.length === 0) return change(target, key);
  const inner = rebuild(read(target, [key]), rest, change);
  if (Array.isArray(target)) return target.with(indexOf(target, key, target.length), inner);
  return { ...asObject(target), [key]: inner };
}

function insert(target: JsonValue, path: readonly string[], value: JsonValue): JsonValue {
  if (path.length === 0) return value;
  return rebuild(target, path, (holder, key) => {
    if (Array.isArray(holder)) return holder.toSpliced(indexOf(holder, key, holder.length + 1), 0, value);
    const object = asObject(holder);
    if (object === null) throw refusal(`add operation does not apply: doc is missing path: /${path.join('/')}`);
    return { ...object, [key]: value };
  });
}

function remove(target: JsonValue, path: readonly string[]): JsonValue {
  if (path.length === 0) throw refusal('the whole document cannot be removed');
  read(target, path);
  return rebuild(target, path, (holder, key) => {
    if (Array.isArray(holder)) return holder.toSpliced(indexOf(holder, key, holder.length), 1);
    const result: { [name: string]: JsonValue } = { ...asObject(holder) };
    delete result[key];
    return result;
  });
}
