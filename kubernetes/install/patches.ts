import { EXIT, PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';

/** By which key the items of a list are told apart where a patch is merged into it: those lists that patches of ours touch. */
const MERGE_KEYS: { readonly [list: string]: string } = {
  containers: 'name',
  env: 'name',
  volumes: 'name',
  webhooks: 'name',
};

/**
 * A strategic merge: maps are merged, `null` removes, lists whose items have a merge key are merged by it, and other lists are replaced. What is new
 * comes first, as in kustomize.
 *
 * @throws PosternError ERR_KUSTOMIZATION for directives (`$patch`), and where it would have to be guessed how to merge a list
 */
export function mergeStrategically(object: JsonObject, patch: JsonObject): JsonObject {
  const merged: { [key: string]: JsonValue } = { ...object };
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$')) throw patchError(`the directive ${key} is not understood`);
    if (value === null) delete merged[key];
    else merged[key] = mergeValue(field(object, key), value, key);
  }
  return merged;
}

function mergeValue(before: JsonValue | undefined, value: JsonValue, key: string): JsonValue {
  const [old, now] = [asObject(before), asObject(value)];
  if (old !== null && now !== null) return mergeStrategically(old, now);
  return isList(before) && isList(value) && before.length > 0 ? mergeLists(before, value, key) : value;
}

function mergeLists(before: readonly JsonValue[], items: readonly JsonValue[], list: string): JsonValue {
  if (![...before, ...items].some((item) => asObject(item) !== null)) return items;
  const mergeKey = Object.hasOwn(MERGE_KEYS, list) ? MERGE_KEYS[list] : undefined;
  if (mergeKey === undefined) throw patchError(`it is not known how the items of ${list} are told apart`);
  const keyOf = (item: JsonValue): string => {
    const key = asString(field(asObject(item), mergeKey));
    if (key === null) throw patchError(`an item of ${list} has no ${mergeKey}`);
    return key;
  };
  const patches = new Map(items.map((item) => [keyOf(item), item]));
  const known = new Set(before.map(keyOf));
  const added = items.filter((item) => !known.has(keyOf(item)));
  return [...added, ...before.map((item) => mergeItem(item, patches.get(keyOf(item))))];
}

function mergeItem(item: JsonValue, patch: JsonValue | undefined): JsonValue {
  const [old, now] = [asObject(item), asObject(patch)];
  return old === null || now === null ? item : mergeStrategically(old, now);
}

/** JSON Patch (RFC 6902), of which `replace` of a member that is there. @throws PosternError ERR_KUSTOMIZATION */
export function replaceByPointer(object: JsonObject, operations: JsonValue): JsonObject {
  if (!isList(operations)) throw patchError('a patch with a target is a list of operations');
  return operations.reduce<JsonObject>((patched, entry) => {
    const operation = asObject(entry);
    const pointer = asString(field(operation, 'path')) ?? '';
    const value = field(operation, 'value');
    if (field(operation, 'op') !== 'replace' || !pointer.startsWith('/') || value === undefined) {
      throw patchError(`the one operation that is understood is replace, with a path and a value`);
    }
    const path = pointer.slice(1).split('/');
    return replaceAt(
      patched,
      path.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~')),
      value,
      pointer,
    );
  }, object);
}

function replaceAt(
  object: JsonObject,
  [key = '', ...rest]: readonly string[],
  value: JsonValue,
  at: string,
): JsonObject {
  const before = field(object, key);
  if (before === undefined) throw patchError(`there is nothing at ${at}`);
  if (rest.length === 0) return { ...object, [key]: value };
  const inner = asObject(before);
  if (inner === null) throw patchError(`${at} leads through ${key}, which is no map`);
  return { ...object, [key]: replaceAt(inner, rest, value, at) };
}

function patchError(fault: string): PosternError {
  return new PosternError('ERR_KUSTOMIZATION', `the patch cannot be applied: ${fault}`, { exitCode: EXIT.dataError });
}
