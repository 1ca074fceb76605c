import { asObject, asString, field, isList } from './json.ts';
import { selects, specOf } from './selection.ts';
import type { Claims, JsonObject, JsonValue, PolicyWorkload } from './types.ts';

/** Claims that hold a list in one text whatever a RequestAuthentication says: RFC 8693, 4.2, and a wide-spread habit. */
const ALWAYS_DELIMITED: readonly string[] = ['scope', 'permission'];
const NO_TEXTS: readonly string[] = [];
const WHITE_SPACE = /[ \t\n\r\f\v]+/;

/**
 * Which claims of a token are lists separated by white space: those of every token, and those that the JWT rules for the token's issuer name
 * (`spaceDelimitedClaims`).
 */
export class DelimitedClaims {
  /** By issuer; null: of every issuer. */
  readonly #names = new Map<string | null, Set<string>>();

  /** @param objects of which the RequestAuthentications that select the workload count. */
  constructor(objects: readonly JsonObject[], workload: PolicyWorkload, rootNamespace: string) {
    for (const object of objects) {
      if (field(object, 'kind') !== 'RequestAuthentication' || !selects(object, workload, rootNamespace)) continue;
      const rules = field(specOf(object), 'jwtRules');
      for (const rule of isList(rules) ? rules : []) this.#addRule(asObject(rule));
    }
  }

  #addRule(rule: JsonObject | null): void {
    const names = field(rule, 'spaceDelimitedClaims');
    if (!isList(names)) return;
    const issuer = asString(field(rule, 'issuer'));
    const known = this.#names.get(issuer) ?? new Set();
    for (const name of names) if (typeof name === 'string') known.add(name);
    this.#names.set(issuer, known);
  }

  has(name: string, issuer: string | null): boolean {
    if (ALWAYS_DELIMITED.includes(name)) return true;
    if (this.#names.size === 0) return false;
    return (
      this.#names.get(null)?.has(name) === true || (issuer !== null && this.#names.get(issuer)?.has(name) === true)
    );
  }
}

/**
 * The texts of a claim: itself where it is one, the texts of a list, the words of a delimited one. Empty where it is absent or anything else: numbers,
 * booleans and objects match no value. `path` leads to it through nested objects.
 */
export function claimTexts(claims: Claims, path: readonly string[], delimited: DelimitedClaims): readonly string[] {
  let value: JsonValue | undefined = claims;
  for (const name of path) {
    value = field(asObject(value), name);
  }
  if (typeof value === 'string') {
    const [name = ''] = path;
    const isList = path.length === 1 && delimited.has(name, asString(field(claims, 'iss')));
    return isList ? value.split(WHITE_SPACE).filter((word) => word !== '') : [value];
  }
  return isList(value) ? value.filter((item) => typeof item === 'string') : NO_TEXTS;
}

/** Reads what stood in the outer brackets of `request.auth.claims[a][b]`: a way down, or one name where the brackets make none. */
export function parseClaimPath(name: string): readonly string[] {
  const parts = name.split('][');
  return parts.some((part) => part.includes('[') || part.includes(']')) ? [name] : parts;
}
