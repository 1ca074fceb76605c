import { CidrIndex } from './cidr-index.ts';
import type { Facts } from './facts.ts';
import type { IndexKey } from './tcp-condition.ts';
import { ruleMatches, type TcpClause, type TcpRule } from './tcp-rule.ts';

/** A rule and its place among those of its set, by id. */
interface Ranked {
  readonly rank: number;
  readonly rule: TcpRule;
}
type Bucket = readonly Ranked[];

/** Which keys tell callers apart best; the lower the better. The workload's own address is nearly always the same. */
const COARSENESS: { readonly [kind in IndexKey['kind']]: number } = {
  principal: 0,
  serviceAccount: 0,
  namespace: 1,
  sourceAddress: 1,
  sni: 2,
  trustDomain: 3,
  port: 3,
  destinationAddress: 4,
};

/**
 * The rules of one action, found by what is exact in them. Each rule is filed under every key of one part of it that must hold (all alternatives
 * of `from`, all of `to`, or one condition of `when`), so a connection finds it wherever it can match; a rule without such a part
 * is tried always. What is found is then asked in full: the index only ever decides which rules need not be asked.
 */
export class RuleSet {
  readonly #all: Bucket;
  readonly #always: Ranked[] = [];
  readonly #byText: {
    readonly [kind in 'principal' | 'serviceAccount' | 'namespace' | 'trustDomain' | 'sni']: Map<string, Ranked[]>;
  } = { principal: new Map(), serviceAccount: new Map(), namespace: new Map(), trustDomain: new Map(), sni: new Map() };
  readonly #byPort = new Map<number, Ranked[]>();
  readonly #byAddress = {
    sourceAddress: new CidrIndex<Ranked>(),
    destinationAddress: new CidrIndex<Ranked>(),
  };
  #hasAddresses = { sourceAddress: false, destinationAddress: false };

  constructor(rules: readonly TcpRule[]) {
    const byId = rules.toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
    this.#all = byId.map((rule, rank) => ({ rank, rule }));
    for (const ranked of this.#all) this.#file(ranked);
  }

  get size(): number {
    return this.#all.length;
  }

  /** The rule with the smallest id of those that match. */
  first(facts: Facts): TcpRule | null {
    let best: Ranked | null = null;
    for (const bucket of this.#buckets(facts)) {
      for (const ranked of bucket) {
        // Every bucket is in the order of ids.
        if (best !== null && ranked.rank >= best.rank) break;
        if (ruleMatches(ranked.rule, facts)) best = ranked;
      }
    }
    return best?.rule ?? null;
  }

  /** Names of the policies of which a rule matches, sorted. */
  policies(facts: Facts): readonly string[] {
    const names = new Set<string>();
    for (const { rule } of this.#buckets(facts).flat()) {
      if (!names.has(rule.policy) && ruleMatches(rule, facts)) names.add(rule.policy);
    }
    return [...names].sort();
  }

  /** How many rules a decision on this connection asks at most: what its cost grows with. */
  candidates(facts: Facts): number {
    return this.#buckets(facts).reduce((sum, bucket) => sum + bucket.length, 0);
  }

  #buckets(facts: Facts): Bucket[] {
    if (this.#all.length === 0) return [];
    const { source } = facts;
    // An identity of another form has no parts to look up.
    if (source !== null && source.plain === null) return [this.#all];
    const found: Bucket[] = [this.#always];
    if (source?.plain) {
      const { namespace, serviceAccount } = source.plain;
      take(found, this.#byText.principal, source.principal);
      if (this.#byText.serviceAccount.size > 0)
        take(found, this.#byText.serviceAccount, `${namespace}/${serviceAccount}`);
      take(found, this.#byText.namespace, namespace);
      take(found, this.#byText.trustDomain, source.trustDomain);
    }
    take(found, this.#byText.sni, facts.sni);
    take(found, this.#byPort, facts.destinationPort);
    if (this.#hasAddresses.sourceAddress && facts.sourceAddress !== null) {
      this.#byAddress.sourceAddress.collect(facts.sourceAddress, found);
    }
    if (this.#hasAddresses.destinationAddress && facts.destinationAddress !== null) {
      this.#byAddress.destinationAddress.collect(facts.destinationAddress, found);
    }
    return found;
  }

  #file(ranked: Ranked): void {
    const keys = bestKeys(ranked.rule);
    if (keys === null) {
      this.#always.push(ranked);
      return;
    }
    for (const key of keys) this.#fileUnder(key, ranked);
  }

  #fileUnder(key: IndexKey, ranked: Ranked): void {
    if (key.kind === 'sourceAddress' || key.kind === 'destinationAddress') {
      this.#hasAddresses[key.kind] = true;
      this.#byAddress[key.kind].add(key.value, ranked);
    } else if (key.kind === 'port') {
      append(this.#byPort, key.value, ranked);
    } else {
      append(this.#byText[key.kind], key.value, ranked);
    }
  }
}

function take<K>(found: Bucket[], buckets: ReadonlyMap<K, Bucket>, key: K): void {
  const bucket = buckets.get(key);
  if (bucket !== undefined) found.push(bucket);
}

function append<K>(buckets: Map<K, Ranked[]>, key: K, ranked: Ranked): void {
  const bucket = buckets.get(key);
  if (bucket === undefined) buckets.set(key, [ranked]);
  // Rules come one after another: one that is filed under a key twice is last in its bucket.
  else if (bucket.at(-1) !== ranked) bucket.push(ranked);
}

/** The keys of that part of a rule which tells callers apart best, null where no part has keys. */
function bestKeys(rule: TcpRule): readonly IndexKey[] | null {
  const parts = [keysOfAlternatives(rule.from), keysOfAlternatives(rule.to), keysOfClause(rule.when)];
  return finest(parts);
}

function keysOfAlternatives(clauses: readonly TcpClause[]): readonly IndexKey[] | null {
  const keys = clauses.map(keysOfClause);
  return clauses.length === 0 || keys.includes(null) ? null : keys.flatMap((list) => list ?? []);
}

function keysOfClause(clause: TcpClause): readonly IndexKey[] | null {
  return finest(clause.map((condition) => condition.keys));
}

function finest(lists: readonly (readonly IndexKey[] | null)[]): readonly IndexKey[] | null {
  let best: readonly IndexKey[] | null = null;
  for (const keys of lists) {
    if (keys !== null && (best === null || coarseness(keys) < coarseness(best))) best = keys;
  }
  return best;
}

/** A list is as coarse as the coarsest of its keys. */
function coarseness(keys: readonly IndexKey[]): number {
  return keys.reduce((worst, key) => Math.max(worst, COARSENESS[key.kind]), 0);
}
