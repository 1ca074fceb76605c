import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { mergeKey } from './merge-keys.ts';
import { at } from './objects.ts';

const DELETE_FROM = '$deleteFromPrimitiveList/';
const ORDER = '$setElementOrder/';

/**
 * Strategic merge patch as `kubectl apply` and `kubectl patch` send it for built-in kinds: `$patch: delete|replace`, `$retainKeys`,
 * `$deleteFromPrimitiveList`; `$setElementOrder` orders keyed lists. Which lists are keyed merge-keys.ts says.
 */
export function strategicMerge(target: JsonValue | undefined, patch: JsonObject): JsonValue {
  const { $patch: directive, $retainKeys: retained, ...changes } = patch;
  if (directive === 'replace') return changes;
  const result: { [name: string]: JsonValue } = { ...asObject(target ?? null) };
  if (Array.isArray(retained))
    for (const name of Object.keys(result)) if (!retained.includes(name)) delete result[name];
  for (const [name, value] of Object.entries(changes)) {
    if (name.startsWith(DELETE_FROM)) removePrimitives(result, name.slice(DELETE_FROM.length), value);
    else if (name.startsWith(ORDER)) continue;
    else if (value === null) delete result[name];
    else result[name] = merged(result[name], value, name);
    if (isDeleted(value)) delete result[name];
  }
  for (const [name, value] of Object.entries(changes)) {
    if (name.startsWith(ORDER)) order(result, name.slice(ORDER.length), value);
  }
  return result;
}

const isDeleted = (value: JsonValue): boolean => at(value, '$patch') === 'delete' && asObject(value) !== null;

function merged(target: JsonValue | undefined, value: JsonValue, name: string): JsonValue {
  if (Array.isArray(value)) return mergedList(Array.isArray(target) ? target : [], value, name);
  const fields = asObject(value);
  return fields === null ? value : strategicMerge(target, fields);
}

/** Lists of primitives that merge are few; finalizers are the one that matters. */
function mergedList(target: readonly JsonValue[], patch: readonly JsonValue[], name: string): JsonValue {
  if (name === 'finalizers') return [...new Set([...target, ...patch])];
  const replaces = patch.some((one) => at(one, '$patch') === 'replace');
  const plain = patch.filter((one) => at(one, '$patch') !== 'replace');
  const key = mergeKey(name, [...target, ...plain]);
  if (replaces || key === null) return plain;
  const result = [...target];
  for (const one of plain) {
    const index = result.findIndex((element) => at(element, key) === at(one, key));
    const fields = asObject(one) ?? {};
    if (isDeleted(one)) {
      if (index >= 0) result.splice(index, 1);
    } else if (index < 0) result.push(strategicMerge(undefined, fields));
    else result[index] = strategicMerge(result[index], fields);
  }
  return result;
}

function removePrimitives(result: { [name: string]: JsonValue }, name: string, values: JsonValue): void {
  const list = result[name];
  if (Array.isArray(list) && Array.isArray(values)) result[name] = list.filter((one) => !values.includes(one));
}

/** Elements that the order does not name keep their place behind those before them. */
function order(result: { [name: string]: JsonValue }, name: string, wanted: JsonValue): void {
  const list = result[name];
  if (!Array.isArray(list) || !Array.isArray(wanted)) return;
  const key = mergeKey(name, list);
  const place = (element: JsonValue): number =>
    wanted.findIndex((one) => (key === null ? one === element : at(one, key) === at(element, key)));
  const named = list.filter((one) => place(one) >= 0).sort((a, b) => place(a) - place(b));
  result[name] = [...named, ...list.filter((one) => place(one) < 0)];
}
