import { asObject, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';

type Pointer = readonly (string | number)[];

/** An operation of RFC 6902, its path not yet written as a JSON Pointer. */
export type Edit =
  | { readonly op: 'add' | 'replace'; readonly at: Pointer; readonly value: JsonValue }
  | { readonly op: 'remove'; readonly at: Pointer };

/** Operations that make `after` of `before`, in order; none where they are equal. Items of lists that have a `name` are told apart by it. */
export function diff(before: JsonValue, after: JsonValue, at: Pointer = []): readonly Edit[] {
  if (equal(before, after)) return [];
  if (isList(before) && isList(after)) return diffLists(before, after, at);
  const [old, now] = [asObject(before), asObject(after)];
  if (old !== null && now !== null) return diffObjects(old, now, at);
  return [{ op: 'replace', at, value: after }];
}

function diffObjects(before: JsonObject, after: JsonObject, at: Pointer): readonly Edit[] {
  const gone = Object.keys(before).filter((key) => !Object.hasOwn(after, key));
  return [
    ...gone.map((key): Edit => ({ op: 'remove', at: [...at, key] })),
    ...Object.entries(after).flatMap(([key, value]): readonly Edit[] => {
      const path = [...at, key];
      return Object.hasOwn(before, key) ? diff(before[key] ?? null, value, path) : [{ op: 'add', at: path, value }];
    }),
  ];
}

/** What is the same item at the end of both is changed in place; of what comes before, pair by pair, and the rest is added or removed. */
function diffLists(before: readonly JsonValue[], after: readonly JsonValue[], at: Pointer): readonly Edit[] {
  const shorter = Math.min(before.length, after.length);
  let tail = 0;
  while (tail < shorter && isSame(before[before.length - 1 - tail], after[after.length - 1 - tail])) tail++;
  const edits: Edit[] = [];
  const change = (from: number, to: number): void => {
    edits.push(...diff(before[from] ?? null, after[to] ?? null, [...at, to]));
  };
  const common = shorter - tail;
  for (let index = 0; index < common; index++) change(index, index);
  // From the back: indices of what comes before stay what they are.
  for (let index = before.length - tail - 1; index >= common; index--) edits.push({ op: 'remove', at: [...at, index] });
  for (let index = common; index < after.length - tail; index++) {
    edits.push({ op: 'add', at: [...at, index], value: after[index] ?? null });
  }
  for (let index = tail; index > 0; index--) change(before.length - index, after.length - index);
  return edits;
}

function isSame(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  const [left, right] = [asObject(a), asObject(b)];
  if (left !== null && right !== null && typeof left.name === 'string') return left.name === right.name;
  return equal(a ?? null, b ?? null);
}

function equal(a: JsonValue, b: JsonValue): boolean {
  if (a === b) return true;
  if (isList(a) && isList(b)) return a.length === b.length && a.every((item, index) => equal(item, b[index] ?? null));
  const [left, right] = [asObject(a), asObject(b)];
  if (left === null || right === null) return false;
  const keys = Object.keys(left);
  return (
    keys.length === Object.keys(right).length &&
    keys.every((key) => Object.hasOwn(right, key) && equal(left[key] ?? null, right[key] ?? null))
  );
}

/** The operations as RFC 6902 writes them. */
export function jsonPatch(edits: readonly Edit[]): readonly JsonObject[] {
  return edits.map((edit) => {
    const path = edit.at.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
    return edit.op === 'remove' ? { op: edit.op, path } : { op: edit.op, path, value: edit.value };
  });
}
