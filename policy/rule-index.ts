import { append, type Bucket, type Ranked, take } from './buckets.ts';
import { CidrIndex } from './cidr-index.ts';
import { type CompiledClause, type CompiledRule, NO_NAMES, ruleMatches } from './compiled-rule.ts';
import type { Facts } from './facts.ts';
import { type IndexKey, KeyCensus } from './index-key.ts';
import { RequestIndex } from './request-index.ts';

const NO_BUCKETS: readonly Bucket[] = [];

/**
 * The rules of one action, found by what is exact in them. Each rule is filed under every key of one part of it that must hold (all alternatives
 * of `from`, all of `to`, or one condition of `when`), so a connection or request finds it wherever it can match; a rule without such a part
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
  /** Null where no rule is found by its request. */
  #byRequest: RequestIndex | null = null;

  constructor(rules: readonly CompiledRule[]) {
    const byId = rules.toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
    this.#all = byId.map((rule, rank) => ({ rank, rule }));
    const census = new KeyCensus();
    for (const rule of byId) countKeys(rule, census);
    for (const ranked of this.#all) this.#file(ranked, census);
  }

  get size(): number {
    return this.#all.length;
  }

  /** The rules that a connection leads to, whatever its requests: to be found once for all of them. */
  ofConnection(facts: Facts): readonly Bucket[] {
    if (this.#all.length === 0) return NO_BUCKETS;
    const { source } = facts;
    // An identity of another form has no parts to look up.
    if (source !== null && source.plain === null) return [this.#all];
    const found: Bucket[] = this.#always.length === 0 ? [] : [this.#always];
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

  /** The rule with the smallest id of those that match. `connection`: what `ofConnection` found. */
  first(facts: Facts, connection: readonly Bucket[] = this.ofConnection(facts)): CompiledRule | null {
    const best = firstOf(connection, facts, null);
    return (this.#byRequest === null ? best : firstOf(this.#byRequest.find(facts), facts, best))?.rule ?? null;
  }

  /** Names of the policies of which a rule matches, sorted. */
  policies(facts: Facts, connection: readonly Bucket[] = this.ofConnection(facts)): readonly string[] {
    const names = new Set<string>();
    for (const bucket of [...connection, ...(this.#byRequest?.find(facts) ?? NO_BUCKETS)]) {
      for (const { rule } of bucket) if (!names.has(rule.policy) && ruleMatches(rule, facts)) names.add(rule.policy);
    }
    return names.size === 0 ? NO_NAMES : [...names].sort();
  }

  /** How many rules a decision asks at most: what its cost grows with. */
  candidates(facts: Facts): number {
    const found = [...this.ofConnection(facts), ...(this.#byRequest?.find(facts) ?? NO_BUCKETS)];
    return found.reduce((sum, bucket) => sum + bucket.length, 0);
  }

  #file(ranked: Ranked, census: KeyCensus): void {
    const keys = bestKeys(ranked.rule, census);
    if (keys === null) {
      this.#always.push(ranked);
      return;
    }
    for (const key of keys) this.#fileUnder(key, ranked);
  }

  #fileUnder(key: IndexKey, ranked: Ranked): void {
    switch (key.kind) {
      case 'sourceAddress':
      case 'destinationAddress':
        this.#hasAddresses[key.kind] = true;
        this.#byAddress[key.kind].add(key.value, ranked);
        return;
      case 'port':
        append(this.#byPort, key.value, ranked);
        return;
      case 'principal':
      case 'serviceAccount':
      case 'namespace':
      case 'trustDomain':
      case 'sni':
        append(this.#byText[key.kind], key.value, ranked);
        return;
      default:
        this.#byRequest ??= new RequestIndex();
        this.#byRequest.file(key, ranked);
    }
  }
}

function firstOf(buckets: readonly Bucket[], facts: Facts, before: Ranked | null): Ranked | null {
  let best = before;
  for (const bucket of buckets) {
    for (const ranked of bucket) {
      if (best !== null && ranked.rank >= best.rank) break;
      if (ruleMatches(ranked.rule, facts)) best = ranked;
    }
  }
  return best;
}

function countKeys(rule: CompiledRule, census: KeyCensus): void {
  for (const clause of [...rule.from, ...rule.to, rule.when]) {
    for (const { keys } of clause) if (keys !== null) census.add(keys);
  }
}

/** The keys of that part of a rule by which it is found with the fewest others, null where no part has keys. */
function bestKeys(rule: CompiledRule, census: KeyCensus): readonly IndexKey[] | null {
  return census.finest([
    keysOfAlternatives(rule.from, census),
    keysOfAlternatives(rule.to, census),
    keysOfClause(rule.when, census),
  ]);
}

function keysOfAlternatives(clauses: readonly CompiledClause[], census: KeyCensus): readonly IndexKey[] | null {
  const keys = clauses.map((clause) => keysOfClause(clause, census));
  return clauses.length === 0 || keys.includes(null) ? null : keys.flatMap((list) => list ?? []);
}

function keysOfClause(clause: CompiledClause, census: KeyCensus): readonly IndexKey[] | null {
  return census.finest(clause.map((condition) => condition.keys));
}
