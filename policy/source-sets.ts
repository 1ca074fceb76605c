import type { SourceIdentity } from './facts.ts';
import { holdsInOrder } from './string-match.ts';

/**
 * The values of a list of namespaces, OR-ed. To Istio a value V is an unanchored search of the SPIFFE ID for `/ns/V/`, with `.*` for every
 * asterisk in V. For an identity of the plain form that is equality, but for values with an asterisk or a slash.
 */
export class NamespaceSet {
  readonly #exact = new Set<string>();
  /** The literal text between the asterisks of a pattern. */
  readonly #patterns: (readonly string[])[] = [];

  constructor(values: Iterable<string>) {
    for (const value of values) {
      if (isExactNamespace(value)) this.#exact.add(value);
      else this.#patterns.push(`/ns/${value}/`.split('*'));
    }
  }

  has(source: SourceIdentity): boolean {
    if (source.plain !== null && this.#exact.has(source.plain.namespace)) return true;
    const uri = `spiffe://${source.principal}`;
    for (const pieces of this.#patterns) if (holdsInOrder(uri, pieces)) return true;
    if (source.plain !== null) return false;
    for (const namespace of this.#exact) if (uri.includes(`/ns/${namespace}/`)) return true;
    return false;
  }
}

/** Whether the value stands for the one namespace of that name. */
export function isExactNamespace(value: string): boolean {
  return !value.includes('*') && !value.includes('/');
}

/**
 * The values of a list of service accounts, OR-ed: `<namespace>/<name>`, or `<name>` in the policy's own namespace. Istio's meaning is the regular
 * expression `spiffe://.+/ns/NS/(.+/|)sa/SA(/.+)?`, in any trust domain. For an identity of the plain form that is equality.
 */
export class ServiceAccountSet {
  readonly #names = new Set<string>();

  constructor(values: Iterable<string>, policyNamespace: string) {
    for (const value of values) this.#names.add(qualifiedServiceAccount(value, policyNamespace));
  }

  has(source: SourceIdentity): boolean {
    if (source.plain !== null) return this.#names.has(`${source.plain.namespace}/${source.plain.serviceAccount}`);
    for (const name of this.#names) if (matchesLiterally(source.principal, name)) return true;
    return false;
  }
}

export function qualifiedServiceAccount(value: string, policyNamespace: string): string {
  return value.includes('/') ? value : `${policyNamespace}/${value}`;
}

function matchesLiterally(principal: string, name: string): boolean {
  const slash = name.indexOf('/');
  const infix = `/ns/${name.slice(0, slash)}/`;
  const account = `sa/${name.slice(slash + 1)}`;
  // From 1: something must stand before it.
  for (let at = principal.indexOf(infix, 1); at >= 0; at = principal.indexOf(infix, at + 1)) {
    if (endsInAccount(principal.slice(at + infix.length), account)) return true;
  }
  return false;
}

/** `(.+/|)ACCOUNT(/.+)?`. */
function endsInAccount(rest: string, account: string): boolean {
  for (let at = rest.indexOf(account); at >= 0; at = rest.indexOf(account, at + 1)) {
    const opens = at === 0 || (at > 1 && rest[at - 1] === '/');
    const end = at + account.length;
    const closes = end === rest.length || (rest[end] === '/' && end + 1 < rest.length);
    if (opens && closes) return true;
  }
  return false;
}
