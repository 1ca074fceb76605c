import { asObject, field, isAbsent, isList } from '../json.ts';
import { parseKeySet } from '../jwt/key-set.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import type { Findings, Path } from './findings.ts';
import { validatePolicyAnnotations } from './metadata.ts';
import { validateSelection } from './selector.ts';

const SPEC = ['spec'];
const RULE_FIELDS = [
  'issuer',
  'audiences',
  'jwksUri',
  'jwks',
  'fromHeaders',
  'fromParams',
  'fromCookies',
  'outputPayloadToHeader',
  'outputClaimToHeaders',
  'forwardOriginalToken',
  'timeout',
  'spaceDelimitedClaims',
];
const MAX_URI = 2048;
/** Without what a WHATWG URL parser repairs in silence: blanks, backslashes, slashes too few or too many (RFC 3986, 3). */
const HTTP_URI = /^https?:\/\/[^\s\\/?#][^\s\\]*$/i;
/** Keys of which the reason is told why they are of no use. */
const MAX_REASONS = 4;
const MAX_SPACE_DELIMITED = 64;
const HEADER_NAME = /^[-_A-Za-z0-9]+$/;
/** Go's duration, of which whole milliseconds are admissible. */
const DURATION = /^(?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|µs|ms|s|m|h)){1,6}$/;
const DURATION_PART = /([\d.]+)(ns|us|µs|ms|s|m|h)/g;
const NANOSECONDS: { readonly [unit: string]: number } = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** Istio's admission rules of RequestAuthentication, and what Postern adds: unknown fields are errors, and names of headers are such. */
export function validateRequestAuthentication(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC, ['selector', 'targetRef', 'targetRefs', 'jwtRules']) ?? {};
  validatePolicyAnnotations(object, false, findings);
  validateSelection(spec, true, findings);
  for (const [index, item] of findings.items(field(spec, 'jwtRules'), [...SPEC, 'jwtRules']).entries()) {
    const path = [...SPEC, 'jwtRules', index];
    if (item === null) findings.error(path, 'a JWT rule must not be null');
    const rule = findings.object(item, path, RULE_FIELDS);
    if (rule !== null) validateRule(rule, path, findings);
  }
}

function validateRule(rule: JsonObject, path: Path, findings: Findings): void {
  const issuer = findings.string(field(rule, 'issuer'), [...path, 'issuer']);
  const uri = findings.string(field(rule, 'jwksUri'), [...path, 'jwksUri']);
  const jwks = findings.string(field(rule, 'jwks'), [...path, 'jwks']);
  if (issuer === null && uri === null) findings.error(path, 'a JWT rule needs an issuer, or else a jwksUri');
  if (uri !== null && jwks !== null) findings.error(path, 'only one of jwks and jwksUri may be given');
  if (uri !== null) validateUri(uri, [...path, 'jwksUri'], findings);
  if (jwks !== null) validateJwks(jwks, [...path, 'jwks'], findings);
  validateLocations(rule, path, findings);
  validateOutputs(rule, path, findings);
  findings.strings(field(rule, 'audiences'), [...path, 'audiences']);
  findings.boolean(field(rule, 'forwardOriginalToken'), [...path, 'forwardOriginalToken']);
  findings.strings(field(rule, 'spaceDelimitedClaims'), [...path, 'spaceDelimitedClaims'], MAX_SPACE_DELIMITED);
  const timeout = findings.string(field(rule, 'timeout'), [...path, 'timeout']);
  if (timeout !== null && !isWholeMilliseconds(timeout)) {
    findings.error(
      [...path, 'timeout'],
      `timeout ${quoted(timeout)} must be whole milliseconds, at least 1ms, such as 5s`,
    );
  }
}

function validateUri(uri: string, path: Path, findings: Findings): void {
  if (uri.length > MAX_URI || !HTTP_URI.test(uri) || !URL.canParse(uri)) {
    findings.error(path, `jwksUri must be an http or https URL of at most ${MAX_URI} characters`);
  }
}

/** By the reading of whoever verifies tokens: what that cannot read would refuse every token, long after admission. */
function validateJwks(jwks: string, path: Path, findings: Findings): void {
  const set = parseKeySet(jwks);
  if (typeof set === 'string') {
    findings.error(path, `jwks ${set}`);
    return;
  }
  const written: JsonValue = JSON.parse(jwks);
  const keys = field(asObject(written), 'keys');
  const values = isList(keys) ? keys : [];
  const noObject = values.findIndex((key) => asObject(key) === null);
  if (noObject >= 0) {
    findings.error(path, `keys[${noObject}] of jwks must be an object`);
    return;
  }
  if (values.some((key) => !isAbsent(field(asObject(key), 'd')) || !isAbsent(field(asObject(key), 'k')))) {
    findings.warn(path, 'jwks holds private keys: publish the public ones only, and replace these');
  }
  if (set.keys.length === 0) {
    const reasons = set.ignored.slice(0, MAX_REASONS).join('; ') || 'it has none';
    findings.warn(path, `no key of jwks can verify a token, so every token is refused: ${reasons}`);
  }
}

function validateLocations(rule: JsonObject, path: Path, findings: Findings): void {
  for (const [index, item] of findings.items(field(rule, 'fromHeaders'), [...path, 'fromHeaders']).entries()) {
    const at = [...path, 'fromHeaders', index];
    const header = findings.object(item, at, ['name', 'prefix']);
    findings.requiredString(field(header, 'name'), [...at, 'name'], 'a header needs a name');
    if (field(header, 'prefix') !== '') findings.string(field(header, 'prefix'), [...at, 'prefix']);
  }
  for (const name of ['fromParams', 'fromCookies']) findings.strings(field(rule, name), [...path, name]);
}

function validateOutputs(rule: JsonObject, path: Path, findings: Findings): void {
  const payloadPath = [...path, 'outputPayloadToHeader'];
  validateHeaderName(findings.string(field(rule, 'outputPayloadToHeader'), payloadPath), payloadPath, findings);
  const at = [...path, 'outputClaimToHeaders'];
  const headers = new Set<string>();
  for (const [index, item] of findings.items(field(rule, 'outputClaimToHeaders'), at).entries()) {
    const output = findings.object(item, [...at, index], ['header', 'claim']);
    const headerPath = [...at, index, 'header'];
    const header = findings.requiredString(field(output, 'header'), headerPath, 'an output needs a header');
    findings.requiredString(field(output, 'claim'), [...at, index, 'claim'], 'an output needs a claim');
    validateHeaderName(header, headerPath, findings);
    const name = header?.toLowerCase();
    if (name === undefined) continue;
    if (headers.has(name)) findings.error(headerPath, `${quoted(name)} is the header of another claim already`);
    headers.add(name);
  }
}

function validateHeaderName(name: string | null, path: Path, findings: Findings): void {
  if (name !== null && !HEADER_NAME.test(name)) findings.error(path, `${quoted(name)} is not the name of a header`);
}

function isWholeMilliseconds(text: string): boolean {
  if (!DURATION.test(text)) return false;
  let nanoseconds = 0;
  for (const [, amount = '', unit = ''] of text.matchAll(DURATION_PART)) {
    nanoseconds += Math.round(Number(amount) * (NANOSECONDS[unit] ?? 0));
  }
  return nanoseconds >= 1e6 && nanoseconds % 1e6 === 0;
}
