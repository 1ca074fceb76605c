import type { TcpAttribute } from './attributes.ts';
import { CidrIndex } from './cidr-index.ts';
import type { CompileContext } from './condition.ts';
import type { Facts } from './facts.ts';
import { exactKey, type IndexKey, keysOf } from './index-key.ts';
import { type IpAddress, parseCidr } from './ip.ts';
import type { Matcher } from './matcher.ts';
import { isExactNamespace, NamespaceSet, qualifiedServiceAccount, ServiceAccountSet } from './source-sets.ts';
import { parseStringMatch, StringSet } from './string-match.ts';
import { expandPrincipal, expandTrustDomain } from './trust-domains.ts';

/** What is asked of a connection, whatever it carries. */
export function connectionMatcher(
  attribute: TcpAttribute,
  values: readonly string[],
  context: CompileContext,
): Matcher {
  return { found: (facts) => describe(attribute, facts), ...matcher(attribute, values, context) };
}

type Asked = Omit<Matcher, 'found'>;

function matcher(attribute: TcpAttribute, values: readonly string[], context: CompileContext): Asked {
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
      return addressMatcher(values, 'sourceAddress');
    case 'remote.ip':
      // On TCP there is no header to tell of a client further away than the peer.
      return addressMatcher(values, context.protocol === 'tcp' ? 'sourceAddress' : 'remoteAddress');
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

function principalMatcher(values: readonly string[]): Asked {
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

function trustDomainMatcher(values: readonly string[]): Asked {
  const set = new StringSet(values);
  return {
    matches: ({ source }) => source !== null && set.has(source.trustDomain),
    keys: keysOf(values, (value) => exactKey('trustDomain', value)),
    invalid: [],
  };
}

function namespaceMatcher(values: readonly string[]): Asked {
  const set = new NamespaceSet(values);
  return {
    matches: ({ source }) => source !== null && set.has(source),
    keys: keysOf(values, (value) => (isExactNamespace(value) ? { kind: 'namespace', value } : null)),
    invalid: [],
  };
}

function serviceAccountMatcher(values: readonly string[], policyNamespace: string): Asked {
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

type AddressKind = 'sourceAddress' | 'remoteAddress' | 'destinationAddress';

function addressMatcher(values: readonly string[], kind: AddressKind): Asked {
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
  return {
    matches: (facts) => {
      const found: IpAddress | null = facts[kind];
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

function portMatcher(values: readonly string[]): Asked {
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

function sniMatcher(values: readonly string[]): Asked {
  const set = new StringSet(values);
  return {
    matches: ({ sni }) => sni !== '' && set.has(sni),
    keys: keysOf(values, (value) => exactKey('sni', value)),
    invalid: [],
  };
}

const ABSENT = '(none: the peer did not authenticate)';
const UNKNOWN = '(not known)';

function describe(attribute: TcpAttribute, facts: Facts): string {
  switch (attribute) {
    case 'source.principal':
    case 'source.namespace':
    case 'source.serviceAccount':
    case 'source.trustDomain':
      return facts.source?.principal ?? ABSENT;
    case 'source.ip':
      return facts.sourceIpText || UNKNOWN;
    case 'remote.ip':
      return facts.request?.forwardedFor ? (facts.request.forwardedForText ?? '') : facts.sourceIpText || UNKNOWN;
    case 'destination.ip':
      return facts.destinationIpText || UNKNOWN;
    case 'destination.port':
      return String(facts.destinationPort);
    case 'connection.sni':
      return facts.sni === '' ? '(no server name)' : facts.sni;
    case 'experimental.envoy.filters':
      return '(exists in Envoy only)';
  }
}
