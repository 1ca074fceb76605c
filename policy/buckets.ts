import type { CompiledRule } from './compiled-rule.ts';

/** A rule and its place among those of its set, by id. */
export interface Ranked {
  readonly rank: number;
  readonly rule: CompiledRule;
}

/** The rules that are found by one key, in the order of their ids. */
export type Bucket = readonly Ranked[];

export function take<K>(found: Bucket[], buckets: ReadonlyMap<K, Bucket>, key: K): void {
  const bucket = buckets.get(key);
  if (bucket !== undefined) found.push(bucket);
}

export function append<K>(buckets: Map<K, Ranked[]>, key: K, ranked: Ranked): void {
  const bucket = buckets.get(key);
  if (bucket === undefined) buckets.set(key, [ranked]);
  else appendTo(bucket, ranked);
}

/** Rules come one after another: one that is filed under a key twice is last in its bucket. */
export function appendTo(bucket: Ranked[], ranked: Ranked): void {
  if (bucket.at(-1) !== ranked) bucket.push(ranked);
}
