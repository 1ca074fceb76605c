import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { identityOf, isPrimitiveSet, mergeKey } from './merge-keys.ts';
import { at } from './objects.ts';

/**
 * Fields as `managedFields` names them: a path is a list of `f:<name>`, `k:<key of a list element>` and `v:<element of a set>`, kept as one JSON text
 * so that sets of paths are sets of texts.
 */
export type FieldPath = string;
/** Each field that holds a value of its own, and that value as JSON. */
export type Fields = ReadonlyMap<FieldPath, string>;

export const pathOf = (parts: readonly string[]): FieldPath => JSON.stringify(parts);
export const partsOf = (path: FieldPath): readonly string[] => JSON.parse(path) as string[];

/** Nobody owns what says which object it is, and what the server alone writes. */
const UNOWNED: readonly string[] = ['apiVersion', 'kind'];
const UNOWNED_META: readonly string[] = [
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
  'selfLink',
];

export function fieldsOf(object: JsonObject): Fields {
  const fields = new Map<FieldPath, string>();
  for (const [name, value] of Object.entries(object)) {
    if (UNOWNED.includes(name)) continue;
    if (name !== 'metadata') collect(value, name, [`f:${name}`], fields);
    else {
      for (const [field, inner] of Object.entries(asObject(value) ?? {})) {
        if (!UNOWNED_META.includes(field)) collect(inner, field, ['f:metadata', `f:${field}`], fields);
      }
    }
  }
  return fields;
}

function collect(value: JsonValue, name: string, path: readonly string[], into: Map<FieldPath, string>): void {
  if (Array.isArray(value)) {
    collectList(value, name, path, into);
    return;
  }
  const entries = Object.entries(asObject(value) ?? {});
  if (entries.length === 0) into.set(pathOf(path), JSON.stringify(value));
  for (const [field, inner] of entries) collect(inner, field, [...path, `f:${field}`], into);
}

function collectList(
  list: readonly JsonValue[],
  name: string,
  path: readonly string[],
  into: Map<FieldPath, string>,
): void {
  const key = mergeKey(name, list);
  if (isPrimitiveSet(name)) {
    for (const element of list) into.set(pathOf([...path, `v:${JSON.stringify(element)}`]), JSON.stringify(element));
  } else if (key === null || list.length === 0) into.set(pathOf(path), JSON.stringify(list));
  else {
    for (const element of list) {
      const inner = [...path, `k:${JSON.stringify(identityOf(key, element))}`];
      // That the element is there is a field of its own.
      into.set(pathOf([...inner, '.']), '""');
      collect(element, '', inner, into);
    }
  }
}

/** FieldsV1: the paths as a tree. */
export function encodeFields(paths: Iterable<FieldPath>): JsonObject {
  const tree: { [part: string]: JsonValue } = {};
  for (const path of paths) {
    let node = tree;
    for (const part of partsOf(path)) {
      node[part] ??= {};
      node = node[part] as { [part: string]: JsonValue };
    }
  }
  return tree;
}

export function decodeFields(tree: JsonValue | undefined): Set<FieldPath> {
  const paths = new Set<FieldPath>();
  const walk = (node: JsonObject, path: readonly string[]): void => {
    const entries = Object.entries(node);
    if (entries.length === 0) paths.add(pathOf(path));
    for (const [part, inner] of entries) walk(asObject(inner) ?? {}, [...path, part]);
  };
  for (const [part, inner] of Object.entries(asObject(tree) ?? {})) walk(asObject(inner) ?? {}, [part]);
  return paths;
}

/** `.spec.containers[name="a"].image`, as conflicts name a field. */
export function describePath(path: FieldPath): string {
  const parts = partsOf(path).map((part) => {
    if (part.startsWith('f:')) return `.${part.slice(2)}`;
    if (part.startsWith('v:')) return `[=${part.slice(2)}]`;
    if (!part.startsWith('k:')) return '';
    const key = Object.entries(JSON.parse(part.slice(2)) as JsonObject);
    return `[${key.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(',')}]`;
  });
  return parts.join('');
}

/** The object without a field; maps and lists that become empty by that go too. */
export function withoutPath(value: JsonValue, path: readonly string[]): JsonValue | undefined {
  const [part = '', ...rest] = path;
  if (part === '' || part === '.') return undefined;
  if (Array.isArray(value)) {
    const list = value.flatMap((element) => {
      if (!isElement(part, element)) return [element];
      return rest.length === 0 ? [] : (withoutPath(element, rest) ?? []);
    });
    return list.length === 0 ? undefined : list;
  }
  const object = asObject(value);
  const name = part.slice(2);
  const inner = at(object ?? undefined, name);
  if (object === null || inner === undefined) return value;
  const left = rest.length === 0 ? undefined : withoutPath(inner, rest);
  const result: { [name: string]: JsonValue } = { ...object };
  if (left === undefined) delete result[name];
  else result[name] = left;
  return Object.keys(result).length === 0 ? undefined : result;
}

function isElement(part: string, element: JsonValue): boolean {
  if (part.startsWith('v:')) return JSON.stringify(element) === part.slice(2);
  const key = JSON.parse(part.slice(2)) as JsonObject;
  const [name = ''] = Object.keys(key);
  return JSON.stringify(identityOf(name, element)) === JSON.stringify(key);
}
