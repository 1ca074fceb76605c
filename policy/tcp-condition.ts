import { isTcpAttribute, type TcpAttribute } from './attributes.ts';
import { CidrIndex } from './cidr-index.ts';
import type { Facts } from './facts.ts';
import { type Cidr, type IpAddress, parseCidr } from './ip.ts';
import type { Condition } from './rule.ts';
import { isExactNamespace, NamespaceSet, qualifiedServiceAccount, ServiceAccountSet } from './source-sets.ts';
import { parseStringMatch, StringSet } from './string-match.ts';
import { expandPrincipal, expandTrustDomain } from './trust-domains.ts';

/** A condition on an attribute of TCP, ready to be asked. */
export interface TcpCondition {
  readonly source: Condition;
  readonly attribute: TcpAttribute;
  holds(facts: Facts): boolean;
  /** What the connection has there, for an explanation. */
  found(facts: Facts): string;
  /**
   * Facts of which at least one is true of every connection for which this holds; null where no such list is known. What the index
   * of rules is built from: it may say too much, never too little.
   */
  readonly keys: readonly IndexKey[] | null;
}

export type IndexKey =
  | { readonly kind: 'principal' | 'serviceAccount' | 'namespace' | 'trustDomain' | 'sni'; readonly value: string }
  | { readonly kind: 'port'; readonly value: number }
  | { readonly kind: 'sourceAddress' | 'destinationAddress'; readonly value: Cidr };

export interface TcpContext {
  /** Where a service account without a namespace lives. */
  readonly policyNamespace: string;
  readonly trustDomains: readonly string[];
}

/** What a list of values asks, and the values that are none and were left out. */
interface Matcher {
  readonly matches: (facts: Facts) => boolean;
  readonly keys: readonly IndexKey[] | null;
  readonly invalid: readonly string[];
}

/**
 * Compiles a condition. `condition` is null where the attribute is not one of TCP, or no value is left; `invalid` are the values that cannot be
 * read. Whoever makes the rule decides what either means for its action.
 */
export function compileTcpCondition(
  source: Condition,
  context: TcpContext,
): { readonly condition: TcpCondition | null; readonly invalid: readonly string[] } {
  const { attribute, negated } = source;
  if (!isTcpAttribute(attribute)) return { condition: null, invalid: [] };
  const { matches, keys, invalid } = matcher(attribute, source.values, context);
  if (invalid.length === source.values.length) return { condition: null, invalid };
  const condition: TcpCondition = {
    source,
    attribute,
    // An attribute that is absent matches no value, so that a negated condition on it holds.
    holds: negated ? (facts) => !matches(facts) : matches,
    found: (facts) => describe(attribute, facts),
    keys: negated ? null : keys,
  };
  return { condition, invalid };
}

function matcher(attribute: TcpAttribute, values: readonly string[], context: TcpContext): Matcher {
  switch (attribute) {
    case 'source.principal':
      return principalMatcher(values.flatMap((value) => expandPrincipal(value, context.trustDomains)));
    case 'source.trustDomain':
      return trustDomainMatcher(values.flatMap((value) => expandTrustDomain(value, context.trustDomains)));
    case 'source.namespace':
      return namespaceMatcher(values);
    case 'source.serviceAccount':
      return serviceAccountMatcher(values, context.policyNamespace);
    case 'source.ip':
    // On TCP there is no header to tell of a client further away than the peer.
    case 'remote.ip':
      return addressMatcher(values, 'sourceAddress');
    case 'destination.ip':
      return addressMatcher(values, 'destinationAddress');
    case 'destination.port':
      return portMatcher(values);
    case 'connection.sni':
      return sniMatcher(values);
    case 'experimental.envoy.filters':
      // Metadata of filters that exist in Envoy only: absent on every connection.
      return { matches: () => false, keys: null, invalid: [] };
  }
}

function principalMatcher(values: readonly string[]): Matcher {
  const set = new StringSet(values);
  return {
    matches: ({ source }) => source !== null && set.has(source.principal),
    keys: keysOf(values, principalKey),
    invalid: [],
  };
}

/** Besides exact principals: patterns that fix the namespace, or namespace and service account, which most real ones do. */
function principalKey(value: string): IndexKey | null {
  const match = parseStringMatch(value);
  if (match.kind === 'exact') return { kind: 'principal', value };
  if (match.kind === 'present') return null;
  const parts = match.text.split('/');
  const [, ns, namespace = '', sa, account = ''] = parts;
  // `*/ns/shop/sa/orders`: with nothing but the trust domain left open, or its start.
  if (match.kind === 'suffix') {
    const isWhole = parts.length === 5 && ns === 'ns' && sa === 'sa';
    return isWhole ? { kind: 'serviceAccount', value: `${namespace}/${account}` } : null;
  }
  // `cluster.local/ns/shop/*`: the slash after the namespace closes it.
  return parts.length >= 4 && ns === 'ns' ? { kind: 'namespace', value: namespace } : null;
}

function trustDomainMatcher(values: readonly string[]): Matcher {
  const set = new StringSet(values);
  return {
    matches: ({ source }) => source !== null && set.has(source.trustDomain),
    keys: keysOf(values, (value) => (parseStringMatch(value).kind === 'exact' ? { kind: 'trustDomain', value } : null)),
    invalid: [],
  };
}

function namespaceMatcher(values: readonly string[]): Matcher {
  const set = new NamespaceSet(values);
  return {
    matches: ({ source }) => source !== null && set.has(source),
    keys: keysOf(values, (value) => (isExactNamespace(value) ? { kind: 'namespace', value } : null)),
    invalid: [],
  };
}

function serviceAccountMatcher(values: readonly string[], policyNamespace: string): Matcher {
  const set = new ServiceAccountSet(values, policyNamespace);
  return {
    matches: ({ source }) => source !== null && set.has(source),
    keys: keysOf(values, (value) => ({
      kind: 'serviceAccount',
      value: qualifiedServiceAccount(value, policyNamespace),
    })),
    invalid: [],
  };
}

function addressMatcher(values: readonly string[], kind: 'sourceAddress' | 'destinationAddress'): Matcher {
  const blocks = new CidrIndex<true>();
  const keys: IndexKey[] = [];
  const invalid: string[] = [];
  for (const text of values) {
    const block = parseCidr(text);
    if (block === null) {
      invalid.push(text);
      continue;
    }
    blocks.add(block, true);
    keys.push({ kind, value: block });
  }
  const address: (facts: Facts) => IpAddress | null =
    kind === 'sourceAddress' ? (facts) => facts.sourceAddress : (facts) => facts.destinationAddress;
  return {
    matches: (facts) => {
      const found = address(facts);
      return found !== null && blocks.has(found);
    },
    keys,
    invalid,
  };
}

const PORT = /^[0-9]{1,20}$/;

/** Reads a port of a policy: a decimal number up to 65535, zeros before it allowed; null where it is not one. */
export function parsePolicyPort(text: string): number | null {
  const port = PORT.test(text) ? Number(text) : Number.NaN;
  return port <= 65_535 ? port : null;
}

function portMatcher(values: readonly string[]): Matcher {
  const ports = new Set<number>();
  const invalid: string[] = [];
  for (const text of values) {
    const port = parsePolicyPort(text);
    if (port === null) invalid.push(text);
    else ports.add(port);
  }
  const keys = [...ports].map((value): IndexKey => ({ kind: 'port', value }));
  return { matches: (facts) => ports.has(facts.destinationPort), keys, invalid };
}

function sniMatcher(values: readonly string[]): Matcher {
  const set = new StringSet(values);
  return {
    matches: ({ sni }) => sni !== '' && set.has(sni),
    keys: keysOf(values, (value) => (parseStringMatch(value).kind === 'exact' ? { kind: 'sni', value } : null)),
    invalid: [],
  };
}

/** The key of every value, or null: one value without a key can match a connection that no key leads to. */
function keysOf(values: readonly string[], key: (value: string) => IndexKey | null): readonly IndexKey[] | null {
  const keys: IndexKey[] = [];
  for (const value of values) {
    const found = key(value);
    if (found === null) return null;
    keys.push(found);
  }
  return keys;
}

const ABSENT = '(none: the peer did not authenticate)';

function describe(attribute: TcpAttribute, facts: Facts): string {
  switch (attribute) {
    case 'source.principal':
    case 'source.namespace':
    case 'source.serviceAccount':
    case 'source.trustDomain':
      return facts.source?.principal ?? ABSENT;
    case 'source.ip':
    case 'remote.ip':
      return facts.sourceIpText;
    case 'destination.ip':
      return facts.destinationIpText;
    case 'destination.port':
      return String(facts.destinationPort);
    case 'connection.sni':
      return facts.sni === '' ? '(no server name)' : facts.sni;
    case 'experimental.envoy.filters':
      return '(exists in Envoy only)';
  }
}
