import { PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import { parseKeySet } from '../../policy/jwt/key-set.ts';
import { parseStrictJson } from '../../policy/jwt/strict-json.ts';
import type { JwksSource } from '../../policy/tokens/jwks-source.ts';
import { acceptable, type FetchOptions, fetchDocument } from './fetch-document.ts';

export type RemoteSource = Exclude<JwksSource, { readonly kind: 'inline' }>;

export interface FetchedKeySet {
  /** JWK Set of the usable keys, public members alone: NEVER the text as it was fetched. */
  readonly text: string;
  /** Keys of it that are of no use, and why. */
  readonly ignored: readonly string[];
}

const MAX_CONFIGURATION_DEPTH = 16;

/** @throws PosternError ERR_JWKS_FETCH or ERR_JWKS_CONTENT that says what to look at. */
export async function fetchKeySet(source: RemoteSource, options: FetchOptions): Promise<FetchedKeySet> {
  const uri = source.kind === 'uri' ? source.name : await discover(source, options);
  const keySet = parseKeySet(await fetchDocument(uri, options));
  if (typeof keySet === 'string') throw contentError(uri, `the JWK Set ${keySet}`);
  if (keySet.keys.length === 0 && keySet.ignored.length > 0) {
    throw contentError(uri, `no key of the JWK Set is of use: ${keySet.ignored.slice(0, 3).join('; ')}`);
  }
  return { text: keySet.toText(), ignored: keySet.ignored };
}

/** OpenID Connect Discovery 1.0, 4: where the issuer's keys are, in its own words. */
async function discover(source: Extract<RemoteSource, { kind: 'discovery' }>, options: FetchOptions): Promise<string> {
  const { name, issuer } = source;
  const configuration = asObject(parseStrictJson(await fetchDocument(name, options), MAX_CONFIGURATION_DEPTH));
  if (configuration === null) throw contentError(name, 'the configuration is not a JSON object');
  const told = asString(field(configuration, 'issuer'));
  // 4.3: it must be the issuer that was asked for, or one provider would speak for another.
  if (told === null || withoutSlash(told) !== withoutSlash(issuer)) {
    throw contentError(name, `the configuration is that of the issuer ${JSON.stringify(told?.slice(0, 200) ?? null)}`);
  }
  const uri = asString(field(configuration, 'jwks_uri'));
  if (uri === null) throw contentError(name, 'the configuration has no jwks_uri');
  return acceptable(uri, new URL(name)).href;
}

function withoutSlash(issuer: string): string {
  return issuer.endsWith('/') ? issuer.slice(0, -1) : issuer;
}

function contentError(uri: string, what: string): PosternError {
  const [plain = ''] = uri.split('?');
  return new PosternError('ERR_JWKS_CONTENT', `${plain}: ${what}`);
}
