import { type Attribute, PLAIN_WHEN_KEYS } from '../attributes.ts';
import { parsePolicyPort } from '../connection-matchers.ts';
import { parseCidr } from '../ip.ts';
import { pathProblem } from '../path-template.ts';
import { quoted } from '../quoted.ts';
import { type Findings, nearest, type Path } from './findings.ts';

const MAX_SERVICE_ACCOUNT = 320;
const NEVER_IN_PATH = /[?#]/;
/** RFC 9110, section 9.1, and PATCH (RFC 5789). */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']);
const ENCODED_IN_PATH = /[^\x21-\x7e]|["<>^`|\\]/;

/** What a value of a condition must be, by attribute; `isField` where it stands in `source`, not in `when`. */
export function validateValue(
  attribute: Attribute,
  text: string,
  path: Path,
  isField: boolean,
  findings: Findings,
): void {
  switch (attribute) {
    case 'source.ip':
    case 'remote.ip':
    case 'destination.ip':
      if (parseCidr(text) === null) findings.error(path, `${quoted(text)} is neither an IP address nor a CIDR block`);
      return;
    case 'destination.port':
      if (parsePolicyPort(text) === null) findings.error(path, `${quoted(text)} is not a port: 0 to 65535`);
      return;
    case 'request.path': {
      const problem = pathProblem(text);
      if (problem !== null) findings.error(path, `${quoted(text)}: ${problem}`);
      else if (NEVER_IN_PATH.test(text)) findings.warn(path, `${quoted(text)} never matches: a path has no query`);
      else if (hasLiteralStar(text) && !text.includes('{')) warnOfStar(text, '; {*} is one segment', path, findings);
      else if (ENCODED_IN_PATH.test(text)) {
        findings.warn(
          path,
          `${quoted(text)} holds characters that are percent-encoded unless pathNormalization is NONE`,
        );
      }
      return;
    }
    case 'source.principal':
      if (text.startsWith('spiffe://')) {
        findings.warn(path, `${quoted(text)} never matches: principals are written without "spiffe://"`);
      } else if (hasLiteralStar(text)) warnOfStar(text, '', path, findings);
      return;
    case 'source.namespace':
    case 'request.host':
      if (hasLiteralStar(text)) warnOfStar(text, '', path, findings);
      return;
    case 'request.method':
      if (METHODS.has(text.toUpperCase()) && text !== text.toUpperCase()) {
        findings.warn(path, `${quoted(text)} does not match ${text.toUpperCase()}: methods are case-sensitive`);
      }
      return;
    case 'source.serviceAccount':
      validateServiceAccount(text, path, findings);
      return;
    case 'source.trustDomain':
      validateTrustDomain(text, path, isField, findings);
      return;
    default:
      return;
  }
}

/** Whether a `*` is left when that of a prefix or a suffix has been taken away. */
const hasLiteralStar = (text: string): boolean =>
  (text.startsWith('*') ? text.slice(1) : text.endsWith('*') ? text.slice(0, -1) : text).includes('*');

function warnOfStar(text: string, instead: string, path: Path, findings: Findings): void {
  const meaning = '"*" is a wildcard as the first or the last character only; elsewhere it stands for itself';
  findings.warn(path, `${quoted(text)}: ${meaning}${instead}`);
}

function validateServiceAccount(text: string, path: Path, findings: Findings): void {
  const shown = quoted(text);
  const parts = text.split('/');
  if (text.length > MAX_SERVICE_ACCOUNT)
    findings.error(path, `a service account has at most ${MAX_SERVICE_ACCOUNT} characters`);
  if (text.includes('*'))
    findings.error(path, `${shown}: service accounts are matched exactly, without "*"; use principals`);
  if (parts.length > 2) findings.error(path, `${shown} must be <namespace>/<service account> or <service account>`);
  else if (parts.includes('')) findings.error(path, `${shown} lacks its namespace or its name`);
}

function validateTrustDomain(text: string, path: Path, isField: boolean, findings: Findings): void {
  const shown = quoted(text);
  const stars = text.split('*').length - 1;
  if (stars > 1) findings.error(path, `${shown} has more than one "*"`);
  else if (stars === 1 && !text.startsWith('*') && !text.endsWith('*')) {
    findings.error(path, `${shown}: "*" may stand at the start or the end only`);
  }
  if (!text.includes('/')) return;
  if (isField) findings.error(path, `${shown}: a trust domain has no "/"`);
  else findings.warn(path, `${shown} never matches: a trust domain has no "/"`);
}

const DEPRECATED = /^destination\.(?:labels\[.*\]|name|user|namespace)$/;

/** What to say of a `when` key that cannot be read. */
export function unknownKey(key: string): string {
  const shown = quoted(key);
  if (DEPRECATED.test(key))
    return `the key ${shown} is no longer supported; say what the policy applies to by its selector`;
  if (/^request\.(?:headers|auth\.claims)/.test(key))
    return `the key ${shown} must name what it asks for, as in request.headers[x-team]`;
  if (key.startsWith('experimental.')) return ENVOY_ONLY;
  const [, header, name] = /^request\.(?:(header)|(?:auth\.)?claims?)(\[.*\])$/.exec(key) ?? [];
  if (name !== undefined) {
    const meant = `request.${header === undefined ? 'auth.claims' : 'headers'}${name}`;
    return `unknown key ${shown}; did you mean ${quoted(meant)}?`;
  }
  const near = nearest(key, PLAIN_WHEN_KEYS);
  return near === null ? `unknown key ${shown}` : `unknown key ${shown}; did you mean ${near}?`;
}

/** Accepting it would make a DENY that never denies. */
export const ENVOY_ONLY =
  'experimental.envoy.filters asks for metadata of Envoy, which does not exist here: remove the condition';
