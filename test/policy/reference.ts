import { isIPv4, isIPv6 } from 'node:net';
import type {
  Claims,
  ConnectionAttributes,
  Decision,
  JsonObject,
  JsonValue,
  PolicyMesh,
  PolicyWorkload,
  RequestAttributes,
} from '../../policy/types.ts';

/** What a decision is about: a connection, and on HTTP one request of it. */
export interface Subject extends ConnectionAttributes {
  readonly http: { readonly request: RequestAttributes; readonly claims: Claims } | null;
}

/**
 * Istio's semantics, as literally as the text reads, with regular expressions where Istio has them and no thought of speed. It shares
 * nothing with the engine: it is what the engine is held against.
 */
export function referenceDecision(
  objects: readonly JsonObject[],
  workload: PolicyWorkload,
  mesh: PolicyMesh,
  connection: Subject,
): Decision {
  const selected = objects
    .filter((object) => applies(object, workload, mesh.rootNamespace))
    .map((object) => new ReferencePolicy(object, mesh));
  const of = (action: string, dryRun: boolean): ReferencePolicy[] =>
    selected.filter((policy) => policy.action === action && policy.dryRun === dryRun);
  const audit = of('AUDIT', false).filter((policy) => policy.matching(connection).length > 0);
  const shadow = (action: string): { any: boolean; hit: Hit | null } => ({
    any: of(action, true).length > 0,
    hit: smallest(of(action, true), connection),
  });
  const shadowAllow = shadow('ALLOW');
  const shadowDeny = shadow('DENY');
  const common = {
    audit: [...new Set(audit.map((policy) => policy.title))].sort(),
    dryRun: {
      allow: shadowAllow.any ? (shadowAllow.hit ? ('allow' as const) : ('deny' as const)) : null,
      deny: shadowDeny.any ? (shadowDeny.hit ? ('deny' as const) : ('allow' as const)) : null,
      allowPolicy: shadowAllow.hit?.policy ?? null,
      denyPolicy: shadowDeny.hit?.policy ?? null,
    },
  };
  const names = [...new Set(of('CUSTOM', false).map((policy) => policy.provider))];
  const known = names.length === 1 ? mesh.extensionProviders.find(({ name }) => name === names[0]) : undefined;
  const isIgnored = known?.protocol === 'http' && connection.http === null;
  const custom = isIgnored ? null : smallest(of('CUSTOM', false), connection);
  if (custom) {
    const { policy, rule } = custom;
    const by = known ? { reason: 'custom-policy' as const, provider: known.name } : BY_DENY;
    return { allowed: false, policy, rule, ...by, ...common };
  }
  const denied = smallest(of('DENY', false), connection);
  if (denied) return { allowed: false, policy: denied.policy, rule: denied.rule, ...BY_DENY, ...common };
  const noRule = { policy: null, rule: null, provider: null, ...common };
  if (of('ALLOW', false).length === 0) {
    const allowed = mesh.defaultAction === 'ALLOW';
    return { allowed, reason: allowed ? 'default-allow' : 'default-deny', ...noRule };
  }
  const allowed = smallest(of('ALLOW', false), connection);
  return allowed
    ? { ...noRule, allowed: true, policy: allowed.policy, rule: allowed.rule, reason: 'allow-policy' }
    : { ...noRule, allowed: false, reason: 'no-allow-policy-matched' };
}

const BY_DENY = { reason: 'deny-policy' as const, provider: null };

interface Hit {
  readonly id: string;
  readonly policy: string;
  readonly rule: number;
}

function smallest(policies: readonly ReferencePolicy[], connection: Subject): Hit | null {
  const hits = policies.flatMap((policy) => policy.matching(connection));
  return hits.sort((a, b) => (a.id < b.id ? -1 : 1))[0] ?? null;
}

function applies(object: JsonObject, workload: PolicyWorkload, rootNamespace: string): boolean {
  const { namespace } = names(object);
  if (![rootNamespace, workload.namespace].includes(namespace)) return false;
  const spec = obj(object.spec);
  if (spec.targetRef !== undefined || list(spec.targetRefs).length > 0) return false;
  const labels = obj(obj(spec.selector).matchLabels);
  return Object.entries(labels).every(([key, value]) => workload.labels[key] === value);
}

const HTTP_FIELDS = ['hosts', 'methods', 'paths', 'requestPrincipals'];
const SPIFFE = 'spiffe://';

/** One AND-ed part: positive or negative, of values that are OR-ed. */
interface Part {
  readonly attribute: string;
  readonly negative: boolean;
  readonly values: readonly string[];
}

class ReferencePolicy {
  readonly action: string;
  readonly dryRun: boolean;
  readonly title: string;
  readonly provider: string;
  readonly #namespace: string;
  readonly #name: string;
  readonly #rules: readonly JsonValue[];
  readonly #trustDomains: readonly string[];

  constructor(object: JsonObject, mesh: PolicyMesh) {
    const { namespace, name } = names(object);
    const spec = obj(object.spec);
    this.#namespace = namespace;
    this.#name = name;
    this.title = `${namespace}/${name}`;
    this.action = typeof spec.action === 'string' ? spec.action : 'ALLOW';
    this.provider = String(obj(spec.provider).name ?? '');
    const annotation = obj(obj(object.metadata).annotations)['istio.io/dry-run'];
    this.dryRun =
      ['1', 't', 'T', 'TRUE', 'true', 'True'].includes(String(annotation)) && ['ALLOW', 'DENY'].includes(this.action);
    this.#rules = list(spec.rules);
    this.#trustDomains = [mesh.trustDomain, ...mesh.trustDomainAliases];
  }

  matching(connection: Subject): Hit[] {
    return this.#rules.flatMap((rule, index) => {
      if (!this.#ruleMatches(obj(rule), connection)) return [];
      return [{ id: `ns[${this.#namespace}]-policy[${this.#name}]-rule[${index}]`, policy: this.title, rule: index }];
    });
  }

  #ruleMatches(rule: JsonObject, connection: Subject): boolean {
    const from = list(rule.from).map((item) => fieldParts(obj(obj(item).source)));
    const to = list(rule.to).map((item) => fieldParts(obj(obj(item).operation)));
    const when = list(rule.when).flatMap((item) => whenParts(obj(item)));
    const all = [...from.flat(), ...to.flat(), ...when];
    const cannotAsk = (part: Part): boolean =>
      (isHttp(part) && connection.http === null) || part.values.some((value) => isInvalid(part, value));
    if (this.action === 'ALLOW' && all.some(cannotAsk)) return false;
    const holds = (part: Part): boolean => this.#holds(part, connection);
    const any = (clauses: readonly (readonly Part[])[]): boolean =>
      clauses.length === 0 || clauses.some((clause) => clause.every(holds));
    return any(from) && any(to) && when.every(holds);
  }

  #holds(part: Part, connection: Subject): boolean {
    if (isHttp(part) && connection.http === null) return true;
    const values = part.values.filter((value) => !isInvalid(part, value));
    if (values.length === 0) return true;
    const matched = values.some((value) => this.#matches(part.attribute, value, connection));
    return part.negative ? !matched : matched;
  }

  #matches(attribute: string, value: string, connection: Subject): boolean {
    const uri = connection.sourcePrincipal ? SPIFFE + connection.sourcePrincipal : null;
    switch (attribute) {
      case 'principals':
        return uri !== null && this.#aliases(value).some((one) => principalRegExp(one).test(uri));
      case 'namespaces':
        return uri !== null && new RegExp(`^.*/ns/${quote(value).replaceAll('\\*', '.*')}/.*$`).test(uri);
      case 'serviceAccounts': {
        const [namespace = '', account = ''] = value.includes('/') ? value.split('/') : [this.#namespace, value];
        return (
          uri !== null && new RegExp(`^spiffe://.+/ns/${quote(namespace)}/(.+/|)sa/${quote(account)}(/.+)?$`).test(uri)
        );
      }
      case 'trustDomains': {
        const trustDomain = /^spiffe:\/\/([^/]*)/.exec(uri ?? '')?.[1] ?? '';
        const configured = this.#trustDomains.includes(value) ? this.#trustDomains : [value];
        return uri !== null && configured.some((one) => stringMatches(one, trustDomain));
      }
      case 'ipBlocks':
        return blockHolds(value, connection.sourceIp);
      case 'remoteIpBlocks':
        return blockHolds(value, remoteIp(connection));
      case 'destination.ip':
        return blockHolds(value, connection.destinationIp);
      case 'ports':
        return Number(value) === connection.destinationPort;
      case 'connection.sni':
        return stringMatches(value, connection.sni);
      default:
        if (connection.http === null) throw new Error(`test data: ${attribute}`);
        return requestMatches(attribute, value, connection.http.request, connection.http.claims);
    }
  }

  #aliases(value: string): readonly string[] {
    const parts = value.split('/');
    const trustDomain = parts[0] ?? '';
    if (parts.length !== 5 || trustDomain === '*') return [value];
    const wildEqual = (one: string): boolean =>
      trustDomain === one || (trustDomain.includes('*') && stringMatches(trustDomain, one));
    if (trustDomain !== 'cluster.local' && !this.#trustDomains.some(wildEqual)) return [value];
    const replaced = this.#trustDomains.map((one) => [one, ...parts.slice(1)].join('/'));
    // The original stays only if it is one of them (then it is in the list) or a wildcard that covers one; then it stands for what it covers.
    if (!trustDomain.startsWith('*')) return replaced;
    return [value, ...replaced.filter((_, index) => !wildEqual(this.#trustDomains[index] ?? ''))];
  }
}

function fieldParts(fields: JsonObject): Part[] {
  return Object.entries(fields).flatMap(([name, values]) => {
    const negative = name.startsWith('not');
    const attribute = negative ? name.charAt(3).toLowerCase() + name.slice(4) : name;
    return list(values).length === 0 ? [] : [{ attribute, negative, values: list(values).map(String) }];
  });
}

const WHEN: { readonly [key: string]: string } = {
  'source.principal': 'principals',
  'source.namespace': 'namespaces',
  'source.serviceAccount': 'serviceAccounts',
  'source.trustDomain': 'trustDomains',
  'source.ip': 'ipBlocks',
  'remote.ip': 'remoteIpBlocks',
  'destination.port': 'ports',
  'request.auth.principal': 'requestPrincipals',
};

function whenParts(condition: JsonObject): Part[] {
  const key = String(condition.key);
  const attribute = WHEN[key] ?? key;
  return [
    { attribute, negative: false, values: list(condition.values).map(String) },
    { attribute, negative: true, values: list(condition.notValues).map(String) },
  ].filter(({ values }) => values.length > 0);
}

function isHttp({ attribute }: Part): boolean {
  return HTTP_FIELDS.includes(attribute) || attribute.startsWith('request.');
}

function isInvalid({ attribute }: Part, value: string): boolean {
  if (attribute === 'paths') return /[{}]/.test(value) && !isTemplate(value);
  if (attribute === 'ports') return !/^\d+$/.test(value) || Number(value) > 65_535;
  if (['ipBlocks', 'remoteIpBlocks', 'destination.ip'].includes(attribute)) return parseBlock(value) === null;
  return false;
}

/** The form of section 1.7, as one regular expression. */
function isTemplate(value: string): boolean {
  const literal = "[A-Za-z0-9\\-._~%!$&'()+,;:@=]+";
  return new RegExp(`^(?:/(?:${literal}|\\{\\*\\}))*(?:/\\{\\*\\*\\}(?:/${literal})*)?/?$`).test(value);
}

function pathMatches(value: string, path: string): boolean {
  // What is in a head is bytes, one a character.
  if (!value.includes('{')) return stringMatches(Buffer.from(value).toString('latin1'), path);
  const covered = "A-Za-z0-9\\-._~%!$&'()+,;:@=*";
  const pattern = value
    .split(/(\{\*\*?\})/)
    .map((part) => (part === '{*}' ? `[${covered}]+` : part === '{**}' ? `[${covered}/]*` : quote(part)));
  return new RegExp(`^${pattern.join('')}$`).test(path);
}

function requestMatches(attribute: string, value: string, request: RequestAttributes, claims: Claims): boolean {
  const header = /^request\.headers\[(.*)\]$/.exec(attribute)?.[1]?.toLowerCase();
  if (header !== undefined)
    return headerLines(header, request).some((line) => value === '*' || stringMatches(value, line));
  const claim = /^request\.auth\.claims(\[.*\])$/.exec(attribute)?.[1];
  if (claim !== undefined) return claimMatches(claimPath(claim), value, claims);
  switch (attribute) {
    case 'hosts':
      return request.host !== '' && stringMatches(value.toLowerCase(), request.host.toLowerCase());
    case 'methods':
      return stringMatches(value, request.method);
    case 'paths':
      return pathMatches(value, request.path);
    case 'requestPrincipals':
      return requestPrincipalMatches(value, claims);
    case 'request.auth.audiences':
      return claimMatches(['aud'], value, claims);
    case 'request.auth.presenter':
      return claimMatches(['azp'], value, claims);
    default:
      throw new Error(`test data: ${attribute}`);
  }
}

function headerLines(name: string, request: RequestAttributes): readonly string[] {
  if (name === ':method') return [request.method];
  if (name === ':path') return [request.path + request.query];
  if (name === ':authority' || name === 'host') return request.host === '' ? [] : [request.host];
  return request.header(name);
}

/** Section 1.6's table, line by line. */
function requestPrincipalMatches(value: string, claims: Claims): boolean {
  const { iss, sub } = claims ?? {};
  if (typeof iss !== 'string' || typeof sub !== 'string') return false;
  const table: readonly (readonly [form: RegExp, holds: (a: string, b: string) => boolean])[] = [
    [/^(\*)$/, () => iss !== '' && sub !== ''],
    [/^\*([^/]*)$/, (end) => iss !== '' && sub.endsWith(end)],
    [/^\*\/([^/]*)$/, (subject) => iss !== '' && sub === subject],
    [/^\*(.*)\/([^/]*)$/, (end, subject) => iss.endsWith(end) && sub === subject],
    [/^([^/]*)\*$/, (start) => iss.startsWith(start) && sub !== ''],
    [/^(.*)\/\*$/, (issuer) => iss === issuer && sub !== ''],
    [/^(.*)\/([^/]*)\*$/, (issuer, start) => iss === issuer && sub.startsWith(start)],
    [/^(.*)\/([^/]*)$/, (issuer, subject) => iss === issuer && sub === subject],
    [/^([^/]*)$/, (issuer) => iss === issuer && sub === ''],
  ];
  for (const [form, holds] of table) {
    const parts = form.exec(value);
    if (parts !== null) return holds(parts[1] ?? '', parts[2] ?? '');
  }
  throw new Error(`test data: ${value}`);
}

function claimPath(brackets: string): readonly string[] {
  const isChain = /^(?:\[[^[\]]*\])+$/.test(brackets);
  return isChain ? [...brackets.matchAll(/\[([^[\]]*)\]/g)].map(([, name = '']) => name) : [brackets.slice(1, -1)];
}

function claimMatches(path: readonly string[], value: string, claims: Claims): boolean {
  let found: JsonValue | undefined = claims ?? undefined;
  for (const name of path) found = Object.entries(obj(found)).find(([key]) => key === name)?.[1];
  const isDelimited = path.length === 1 && ['scope', 'permission'].includes(path[0] ?? '');
  if (typeof found === 'string') found = isDelimited ? found.split(/\s+/).filter(Boolean) : [found];
  return list(found).some((item) => typeof item === 'string' && stringMatches(value, item));
}

function remoteIp({ sourceIp, http }: Subject): string {
  const last = http?.request.header('x-forwarded-for').join(',').split(',').at(-1)?.trim() ?? '';
  return parseAddress(last) === null || last.includes('%') ? sourceIp : last;
}

function principalRegExp(value: string): RegExp {
  if (value === '*') return /^.+$/;
  if (value.startsWith('*')) return new RegExp(`^${SPIFFE}.*${quote(value.slice(1))}$`);
  if (value.endsWith('*')) return new RegExp(`^${SPIFFE}${quote(value.slice(0, -1))}.*$`);
  return new RegExp(`^${SPIFFE}${quote(value)}$`);
}

function stringMatches(value: string, text: string): boolean {
  if (value === '*') return text.length > 0;
  if (value.startsWith('*')) return text.endsWith(value.slice(1));
  if (value.endsWith('*')) return text.startsWith(value.slice(0, -1));
  return text === value;
}

function quote(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

/** Addresses as one number of 32 or 128 bits; a mapped one as its IPv4 address. */
function parseAddress(text: string): { readonly bits: number; readonly value: bigint } | null {
  if (isIPv4(text)) return { bits: 32, value: text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n) };
  const bare = text.split('%')[0] ?? '';
  if (!isIPv6(bare)) return null;
  // URLs write an IPv6 address in its shortest form, without a dotted part.
  const short = new URL(`http://[${bare}]`).hostname.slice(1, -1);
  const [head = '', tail] = short.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...left, ...new Array<string>(8 - left.length - right.length).fill('0'), ...right];
  return { bits: 128, value: groups.reduce((sum, group) => sum * 65_536n + BigInt(`0x${group}`), 0n) };
}

const MAPPED = 0xffffn << 32n;

function isMapped({ bits, value }: { readonly bits: number; readonly value: bigint }): boolean {
  return bits === 128 && value >> 32n === MAPPED >> 32n;
}

interface Block {
  readonly bits: number;
  readonly value: bigint;
  readonly prefix: number;
}

function parseBlock(text: string): Block | null {
  const [address = '', prefixText, ...rest] = text.split('/');
  const parsed = address.includes('%') ? null : parseAddress(address);
  if (parsed === null || rest.length > 0) return null;
  if (prefixText !== undefined && !/^(0|[1-9]\d*)$/.test(prefixText)) return null;
  const prefix = prefixText === undefined ? parsed.bits : Number(prefixText);
  if (prefix > parsed.bits) return null;
  if (isMapped(parsed) && prefix >= 96) return { bits: 32, value: parsed.value & 0xffffffffn, prefix: prefix - 96 };
  return { ...parsed, prefix };
}

function blockHolds(text: string, address: string): boolean {
  const block = parseBlock(text);
  const written = parseAddress(address);
  if (block === null || written === null) return false;
  const found = isMapped(written) ? { bits: 32, value: written.value & 0xffffffffn } : written;
  const shift = BigInt(block.bits - block.prefix);
  return block.bits === found.bits && block.value >> shift === found.value >> shift;
}

function names(object: JsonObject): { readonly namespace: string; readonly name: string } {
  const { namespace, name } = obj(object.metadata);
  return { namespace: typeof namespace === 'string' ? namespace : 'default', name: String(name) };
}

function obj(value: JsonValue | undefined): { readonly [key: string]: JsonValue | undefined } & JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

function list(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? value : [];
}
