import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import {
  decodeFields,
  describePath,
  encodeFields,
  type FieldPath,
  fieldsOf,
  partsOf,
  withoutPath,
} from './field-sets.ts';
import { isPrimitiveSet, mergeKey, sameElement } from './merge-keys.ts';
import { at, objectsAt, textAt, timestamp, withMeta } from './objects.ts';
import { ApiFailure } from './status.ts';

/** Who writes, as `managedFields` names it. */
export interface Manager {
  readonly name: string;
  readonly apiVersion: string;
  readonly subresource: string;
}

interface Owner {
  readonly entry: JsonObject;
  readonly paths: Set<FieldPath>;
}

const ownersOf = (object: JsonObject): readonly Owner[] =>
  objectsAt(object, 'metadata', 'managedFields').map((entry) => ({
    entry,
    paths: decodeFields(at(entry, 'fieldsV1')),
  }));

function isOf(entry: JsonObject, manager: Manager, operation: string): boolean {
  return (
    textAt(entry, 'manager') === manager.name &&
    textAt(entry, 'operation') === operation &&
    textAt(entry, 'subresource') === manager.subresource
  );
}

function newEntry(manager: Manager, operation: string, paths: Iterable<FieldPath>): JsonObject {
  return {
    manager: manager.name,
    operation,
    apiVersion: manager.apiVersion,
    time: timestamp(),
    fieldsType: 'FieldsV1',
    fieldsV1: encodeFields(paths),
    ...(manager.subresource === '' ? {} : { subresource: manager.subresource }),
  };
}

const withOwners = (object: JsonObject, entries: readonly JsonObject[]): JsonObject =>
  withMeta(object, { managedFields: entries.length === 0 ? undefined : entries });

/** After an ordinary write: what it changed is the writer's from now on, and nobody else's. */
export function ownUpdated(before: JsonObject | null, after: JsonObject, manager: Manager): JsonObject {
  const old = before === null ? new Map<string, string>() : fieldsOf(before);
  const fields = fieldsOf(after);
  const changed = new Set([...fields].filter(([path, value]) => old.get(path) !== value).map(([path]) => path));
  const owners = ownersOf(at(after, 'metadata', 'managedFields') === undefined && before !== null ? before : after);
  const entries: JsonObject[] = [];
  let found = false;
  for (const { entry, paths } of owners) {
    const own = isOf(entry, manager, 'Update');
    found ||= own;
    const kept = [...paths].filter((path) => fields.has(path) && (own || !changed.has(path)));
    const all = own ? [...new Set([...kept, ...changed])] : kept;
    if (all.length === 0) continue;
    const same = all.length === paths.size && all.every((path) => paths.has(path));
    entries.push(same ? entry : own ? newEntry(manager, 'Update', all) : { ...entry, fieldsV1: encodeFields(all) });
  }
  if (!found && changed.size > 0) entries.push(newEntry(manager, 'Update', changed));
  return withOwners(after, entries);
}

/**
 * Server-side apply (KEP-555): fields that the manager applied before and does not any more go, unless another owns them too.
 * @throws ApiFailure 409 that names the fields which others own with other values, where `force` is false.
 */
export function applyFields(live: JsonObject, applied: JsonObject, manager: Manager, force: boolean): JsonObject {
  const wanted = fieldsOf(applied);
  const present = fieldsOf(live);
  const owners = ownersOf(live);
  const mine = owners.find(({ entry }) => isOf(entry, manager, 'Apply'));
  const others = owners.filter((owner) => owner !== mine);
  const taken = new Set([...wanted].filter(([path, value]) => present.get(path) !== value).map(([path]) => path));
  if (!force) refuseConflicts(others, taken);
  let merged = asObject(merge(live, applied, '')) ?? live;
  for (const path of mine?.paths ?? []) {
    if (wanted.has(path) || others.some(({ paths }) => paths.has(path)) || !present.has(path)) continue;
    // An element goes when nobody asks for it any more; its fields one by one.
    if (partsOf(path).at(-1) === '.' && elementIsOwned(path, others)) continue;
    merged = asObject(withoutPath(merged, withoutDot(path)) ?? null) ?? merged;
  }
  const left = others.flatMap(({ entry, paths }) => {
    const kept = [...paths].filter((path) => !taken.has(path));
    return kept.length === 0 ? [] : [kept.length === paths.size ? entry : { ...entry, fieldsV1: encodeFields(kept) }];
  });
  const unchanged =
    mine !== undefined && mine.paths.size === wanted.size && [...mine.paths].every((one) => wanted.has(one));
  const own = unchanged ? mine.entry : newEntry(manager, 'Apply', wanted.keys());
  return withOwners(merged, wanted.size === 0 ? left : [...left, own]);
}

const withoutDot = (path: FieldPath): readonly string[] => partsOf(path).filter((part) => part !== '.');

function elementIsOwned(path: FieldPath, others: readonly Owner[]): boolean {
  const prefix = JSON.stringify(withoutDot(path)).slice(0, -1);
  return others.some(({ paths }) => [...paths].some((one) => one.startsWith(`${prefix},`)));
}

function refuseConflicts(others: readonly Owner[], taken: ReadonlySet<FieldPath>): void {
  const conflicts = others.flatMap(({ entry, paths }) =>
    [...paths].filter((path) => taken.has(path)).map((path) => ({ entry, path: describePath(path) })),
  );
  if (conflicts.length === 0) return;
  const causes = conflicts.map(({ entry, path }) => ({
    reason: 'FieldManagerConflict',
    message: `conflict with ${JSON.stringify(textAt(entry, 'manager'))} using ${textAt(entry, 'apiVersion')}`,
    field: path,
  }));
  const texts = causes.map(({ message, field }) => `${message}: ${field}`);
  const count = `Apply failed with ${causes.length} conflict${causes.length === 1 ? '' : 's'}`;
  const message = texts.length === 1 ? `${count}: ${texts.join('')}` : `${count}: ${texts.join('\n')}`;
  throw new ApiFailure('Conflict', message, { details: { causes } });
}

/** Maps field by field, keyed lists element by element, sets as a union; all else is replaced. */
function merge(live: JsonValue | undefined, applied: JsonValue, name: string): JsonValue {
  if (Array.isArray(applied) && Array.isArray(live)) return mergeLists(live, applied, name);
  const fields = asObject(applied);
  if (fields === null || asObject(live ?? null) === null) return applied;
  const result: { [name: string]: JsonValue } = { ...asObject(live) };
  for (const [field, value] of Object.entries(fields)) result[field] = merge(result[field], value, field);
  return result;
}

function mergeLists(live: readonly JsonValue[], applied: readonly JsonValue[], name: string): JsonValue {
  if (isPrimitiveSet(name)) return [...new Set([...live, ...applied])];
  const key = mergeKey(name, [...live, ...applied]);
  if (key === null) return applied;
  const merged = live.map((element) => {
    const change = applied.find((one) => sameElement(key, one, element));
    return change === undefined ? element : merge(element, change, '');
  });
  return [...merged, ...applied.filter((one) => !live.some((element) => sameElement(key, one, element)))];
}
