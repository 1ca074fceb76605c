import type { Cidr } from './ip.ts';
import { parseStringMatch } from './string-match.ts';

/** A fact that a rule asks for and by which it can be found. */
export type IndexKey = ConnectionKey | RequestKey;

type ConnectionKey =
  | {
      readonly kind: 'principal' | 'serviceAccount' | 'namespace' | 'trustDomain' | 'sni';
      readonly value: string;
    }
  | { readonly kind: 'port'; readonly value: number }
  | { readonly kind: 'sourceAddress' | 'destinationAddress'; readonly value: Cidr };

export type RequestKey =
  | { readonly kind: 'method' | 'issuer' | 'subject'; readonly value: string }
  | { readonly kind: 'host' | 'path'; readonly form: 'exact' | 'prefix' | 'suffix'; readonly value: string }
  | { readonly kind: 'header'; readonly name: string; readonly value: string }
  | { readonly kind: 'claim'; readonly path: readonly string[]; readonly value: string }
  | { readonly kind: 'remoteAddress'; readonly value: Cidr };

/** The key of every value, or null: one value without a key can match what no key leads to. */
export function keysOf(values: readonly string[], key: (value: string) => IndexKey | null): readonly IndexKey[] | null {
  const keys: IndexKey[] = [];
  for (const value of values) {
    const found = key(value);
    if (found === null) return null;
    keys.push(found);
  }
  return keys;
}

/** Whether a value must be met exactly. */
export function isExact(value: string): boolean {
  return parseStringMatch(value).kind === 'exact';
}

/** The key of a value that must be met exactly; null for a pattern. */
export function exactKey(kind: 'trustDomain' | 'sni' | 'method', value: string): IndexKey | null {
  return isExact(value) ? { kind, value } : null;
}

/** The key of a value in any of Istio's forms but `*`. */
export function textKey(kind: 'host' | 'path', value: string): IndexKey | null {
  const match = parseStringMatch(value);
  return match.kind === 'present' ? null : { kind, form: match.kind, value: match.text };
}

/** Which keys tell callers and requests apart best; the lower the better. The workload's own address is nearly always the same. */
const COARSENESS: { readonly [kind in IndexKey['kind']]: number } = {
  principal: 0,
  serviceAccount: 0,
  subject: 0,
  namespace: 1,
  sourceAddress: 1,
  remoteAddress: 1,
  path: 1,
  claim: 1,
  header: 2,
  issuer: 2,
  host: 2,
  sni: 2,
  trustDomain: 3,
  port: 3,
  method: 3,
  destinationAddress: 4,
};

/** Trying so many rules costs so little that it is not worth preferring a fact which says less of the caller. */
const SMALL_CROWD = 8;

/** How many conditions of a set of rules share each key: what many rules ask for tells them apart badly, whatever it is. */
export class KeyCensus {
  readonly #counts = new Map<string, number>();

  add(keys: readonly IndexKey[]): void {
    for (const key of keys) {
      const text = keyText(key);
      this.#counts.set(text, (this.#counts.get(text) ?? 0) + 1);
    }
  }

  /** The list under which a rule is found with the fewest others; null where there is none. */
  finest(lists: readonly (readonly IndexKey[] | null)[]): readonly IndexKey[] | null {
    let best: readonly IndexKey[] | null = null;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const keys of lists) {
      if (keys === null) continue;
      const cost = this.#cost(keys);
      if (cost >= bestCost) continue;
      best = keys;
      bestCost = cost;
    }
    return best;
  }

  /** By the size of the crowd first, then by coarseness. A list is as bad as the worst of its keys. */
  #cost(keys: readonly IndexKey[]): number {
    let crowd = SMALL_CROWD;
    let coarseness = 0;
    for (const key of keys) {
      crowd = Math.max(crowd, this.#counts.get(keyText(key)) ?? 0);
      coarseness = Math.max(coarseness, COARSENESS[key.kind]);
    }
    return crowd * 8 + coarseness;
  }
}

function keyText(key: IndexKey): string {
  switch (key.kind) {
    case 'sourceAddress':
    case 'destinationAddress':
    case 'remoteAddress':
      return `${key.kind} ${key.value.address.words.join('.')}/${key.value.prefix}`;
    case 'host':
    case 'path':
      return `${key.kind} ${key.form} ${key.value}`;
    case 'header':
      return `${key.kind} ${key.name} ${key.value}`;
    case 'claim':
      return `${key.kind} ${key.path.join(' ')} ${key.value}`;
    default:
      return `${key.kind} ${key.value}`;
  }
}
