import { messageOf, PosternError } from '../../mesh/errors.ts';
import { type JwtRule, readJwtRules } from '../../policy/tokens/jwt-rule.ts';
import type { JsonObject, Manifest } from '../../policy/types.ts';
import type { RemoteSource } from './fetch-key-set.ts';

/** Keys that some RequestAuthentication needs. */
export interface WantedSource {
  readonly source: RemoteSource;
  readonly timeoutMs: number;
  /** Of the objects that name it. */
  readonly namespaces: readonly string[];
}

const MIN_TIMEOUT_MS = 100;
const MAX_TIMEOUT_MS = 30_000;
/** Of the name of a Jwks resource: what sidecars take. */
const MAX_NAME = 2048 + 64;

/**
 * What the RequestAuthentications among the manifests need, by the name of the Jwks resource. Several rules may name one source: the most patient
 * counts, and an issuer's discovery rather than a `jwksUri` that happens to be the same URI.
 */
export function wantedSources(manifests: readonly Manifest[]): ReadonlyMap<string, WantedSource> {
  const wanted = new Map<string, WantedSource>();
  for (const { kind, namespace, object } of manifests) {
    if (kind !== 'RequestAuthentication') continue;
    for (const { keys, timeoutMs } of rulesOf(object)) {
      if (keys.kind === 'inline' || keys.name.length > MAX_NAME) continue;
      const bounded = Math.min(Math.max(timeoutMs, MIN_TIMEOUT_MS), MAX_TIMEOUT_MS);
      const before = wanted.get(keys.name);
      const source = before?.source.kind === 'discovery' ? before.source : keys;
      const namespaces = [...new Set([...(before?.namespaces ?? []), namespace])];
      wanted.set(keys.name, { source, timeoutMs: Math.max(bounded, before?.timeoutMs ?? 0), namespaces });
    }
  }
  return wanted;
}

/** Names of the Jwks resources that a RequestAuthentication needs. */
export function jwksNamesOf(object: JsonObject): readonly string[] {
  const names = rulesOf(object).flatMap(({ keys }) => (keys.kind === 'inline' ? [] : [keys.name]));
  return [...new Set(names.filter((name) => name.length <= MAX_NAME))];
}

/** None where validation has let something through that cannot be read: the sidecars reject that object, and the rest of the mesh goes on. */
function rulesOf(object: JsonObject): readonly JwtRule[] {
  try {
    return readJwtRules(object);
  } catch (error) {
    if (error instanceof PosternError) return [];
    throw new TypeError(`a RequestAuthentication could not be read: ${messageOf(error)}`, { cause: error });
  }
}
