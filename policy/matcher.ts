import type { Facts } from './facts.ts';
import type { IndexKey } from './index-key.ts';

/** What a list of values asks of one attribute. */
export interface Matcher {
  readonly matches: (facts: Facts) => boolean;
  /** What there is, for an explanation. */
  readonly found: (facts: Facts) => string;
  readonly keys: readonly IndexKey[] | null;
  /** The values that are none and were left out. */
  readonly invalid: readonly string[];
}
