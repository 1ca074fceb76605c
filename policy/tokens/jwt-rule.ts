import { PosternError } from '../../mesh/errors.ts';
import { asObject, field, isAbsent, isList } from '../json.ts';
import { nameOf, specOf } from '../selection.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import { goMilliseconds } from './go-duration.ts';
import { type JwksSource, jwksSource } from './jwks-source.ts';
import { DEFAULT_LOCATIONS, type HeaderLocation, type TokenLocations } from './locations.ts';
import { type ClaimOutput, mayBeSet, type TokenOutputs } from './outputs.ts';

/** One of the `jwtRules` of a RequestAuthentication. How claims are read (`spaceDelimitedClaims`) is for the policies to know. */
export interface JwtRule {
  /** Null: tokens of any issuer that the keys verify. */
  readonly issuer: string | null;
  /** Empty: any. */
  readonly audiences: readonly string[];
  readonly keys: JwksSource;
  readonly locations: TokenLocations;
  readonly outputs: TokenOutputs;
  /** The application gets the token, too. */
  readonly forward: boolean;
  /** How long the control plane waits for the keys. */
  readonly timeoutMs: number;
}

/** Istio's default. */
const TIMEOUT_MS = 5_000;

/**
 * Reads the rules of a RequestAuthentication that `validateObject` has found free of errors.
 * @throws PosternError ERR_POLICY_MALFORMED where it is not: a rule that makes no sense must not become one that asks less.
 */
export function readJwtRules(object: JsonObject): readonly JwtRule[] {
  const reader = new RuleReader(object);
  return reader.list(field(specOf(object), 'jwtRules'), 'jwtRules').map((rule, index) => reader.rule(rule, index));
}

class RuleReader {
  readonly #object: JsonObject;

  constructor(object: JsonObject) {
    this.#object = object;
  }

  rule(value: JsonValue, index: number): JwtRule {
    const at = `jwtRules[${index}]`;
    const rule = this.#map(value, at);
    const issuer = this.#text(field(rule, 'issuer'), `${at}.issuer`);
    const uri = this.#text(field(rule, 'jwksUri'), `${at}.jwksUri`);
    const inline = this.#text(field(rule, 'jwks'), `${at}.jwks`);
    const keys = jwksSource({ issuer, uri, inline }) ?? this.#malformed(at);
    return {
      issuer,
      audiences: this.#texts(field(rule, 'audiences'), `${at}.audiences`),
      keys,
      locations: this.#locations(rule, at),
      outputs: this.#outputs(rule, at),
      forward: this.#flag(field(rule, 'forwardOriginalToken'), `${at}.forwardOriginalToken`),
      timeoutMs: this.#duration(field(rule, 'timeout'), `${at}.timeout`),
    };
  }

  list(value: JsonValue | undefined, at: string): readonly JsonValue[] {
    if (isAbsent(value)) return [];
    return isList(value) ? value : this.#malformed(at);
  }

  /** Where any location is named, only those count. */
  #locations(rule: JsonObject, at: string): TokenLocations {
    const headers = this.list(field(rule, 'fromHeaders'), `${at}.fromHeaders`).map((item, index) =>
      this.#header(item, `${at}.fromHeaders[${index}]`),
    );
    const params = this.#texts(field(rule, 'fromParams'), `${at}.fromParams`);
    const cookies = this.#texts(field(rule, 'fromCookies'), `${at}.fromCookies`);
    const none = headers.length === 0 && params.length === 0 && cookies.length === 0;
    return none ? DEFAULT_LOCATIONS : { headers, params, cookies };
  }

  #header(value: JsonValue, at: string): HeaderLocation {
    const header = this.#map(value, at);
    const name = this.#text(field(header, 'name'), `${at}.name`) ?? this.#malformed(`${at}.name`);
    const prefix = this.#text(field(header, 'prefix'), `${at}.prefix`) ?? '';
    return { name: name.toLowerCase(), prefix, scheme: false };
  }

  #outputs(rule: JsonObject, at: string): TokenOutputs {
    const header =
      this.#text(field(rule, 'outputPayloadToHeader'), `${at}.outputPayloadToHeader`)?.toLowerCase() ?? null;
    const claims = this.list(field(rule, 'outputClaimToHeaders'), `${at}.outputClaimToHeaders`).map((item, index) =>
      this.#claim(item, `${at}.outputClaimToHeaders[${index}]`),
    );
    return {
      payload: header !== null && mayBeSet(header) ? header : null,
      claims: claims.filter((output) => mayBeSet(output.header)),
    };
  }

  #claim(value: JsonValue, at: string): ClaimOutput {
    const output = this.#map(value, at);
    const header = this.#text(field(output, 'header'), `${at}.header`) ?? this.#malformed(`${at}.header`);
    const claim = this.#text(field(output, 'claim'), `${at}.claim`) ?? this.#malformed(`${at}.claim`);
    return { header: header.toLowerCase(), path: claim.split('.') };
  }

  #map(value: JsonValue, at: string): JsonObject {
    return asObject(value) ?? this.#malformed(at);
  }

  /** An empty text is the same as none: Istio's protobuf form cannot tell them apart. */
  #text(value: JsonValue | undefined, at: string): string | null {
    if (isAbsent(value) || value === '') return null;
    return typeof value === 'string' ? value : this.#malformed(at);
  }

  #texts(value: JsonValue | undefined, at: string): readonly string[] {
    return this.list(value, at).map((item) => this.#text(item, at) ?? this.#malformed(at));
  }

  #flag(value: JsonValue | undefined, at: string): boolean {
    if (isAbsent(value)) return false;
    return typeof value === 'boolean' ? value : this.#malformed(at);
  }

  #duration(value: JsonValue | undefined, at: string): number {
    const text = this.#text(value, at);
    return text === null ? TIMEOUT_MS : (goMilliseconds(text) ?? this.#malformed(at));
  }

  #malformed(at: string): never {
    const { namespace, name } = nameOf(this.#object);
    throw new PosternError(
      'ERR_POLICY_MALFORMED',
      `RequestAuthentication ${namespace}/${name}: spec.${at} is not what it must be; validate it before compiling`,
    );
  }
}
