import { asObject, field, isList } from '../../policy/json.ts';
import { parseKeySet } from '../../policy/jwt/key-set.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';

/** RFC 7518, 6.2.2, 6.3.2 and 6.4.1: what of a JWK is secret. */
const SECRET = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];
const NO_KEYS = '{"keys":[]}';

/** A RequestAuthentication as sidecars get it: what its author has put into an inline `jwks` by mistake, private keys, stays here. */
export function publicObject(object: JsonObject): JsonObject {
  const spec = asObject(field(object, 'spec'));
  const rules = field(spec, 'jwtRules');
  if (spec === null || !isList(rules)) return object;
  const published = rules.map(publicRule);
  const same = published.every((rule, index) => rule === rules[index]);
  return same ? object : { ...object, spec: { ...spec, jwtRules: published } };
}

function publicRule(value: JsonValue): JsonValue {
  const rule = asObject(value);
  const jwks = field(rule, 'jwks');
  if (rule === null || typeof jwks !== 'string') return value;
  const text = publicText(jwks);
  return text === jwks ? value : { ...rule, jwks: text };
}

/** What cannot be read may hold anything; it verifies nothing, and neither does a set without keys. */
function publicText(jwks: string): string {
  const keySet = parseKeySet(jwks);
  if (typeof keySet === 'string') return NO_KEYS;
  const keys = field(asObject(JSON.parse(jwks)), 'keys');
  const secret =
    isList(keys) && keys.some((key) => SECRET.some((member) => field(asObject(key), member) !== undefined));
  return secret ? keySet.toText() : jwks;
}
