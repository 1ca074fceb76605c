import type { HttpAttribute } from './attributes.ts';
import { parseClaimPath } from './claims.ts';
import type { Facts } from './facts.ts';
import { exactKey, type IndexKey, isExact, keysOf, textKey } from './index-key.ts';
import type { Matcher } from './matcher.ts';
import { isPathTemplate, PathTemplate, pathProblem } from './path-template.ts';
import type { RequestFacts } from './request-facts.ts';
import { matchesPrincipal, parseRequestPrincipal, type RequestPrincipalMatch } from './request-principal.ts';
import { asciiLowerCase, StringSet, wireText } from './string-match.ts';

/** What is asked of a request. `name`: what stood in the brackets of a `when` key. */
export function requestMatcher(attribute: HttpAttribute, name: string | null, values: readonly string[]): Matcher {
  switch (attribute) {
    case 'request.host':
      return hostMatcher(values.map((value) => asciiLowerCase(wireText(value))));
    case 'request.method':
      return methodMatcher(values.map(wireText));
    case 'request.path':
      return pathMatcher(values);
    case 'request.headers':
      return headerMatcher((name ?? '').toLowerCase(), values.map(wireText));
    case 'request.auth.principal':
      return principalMatcher(values);
    case 'request.auth.audiences':
      return claimMatcher(['aud'], values);
    case 'request.auth.presenter':
      return claimMatcher(['azp'], values);
    case 'request.auth.claims':
      return claimMatcher(parseClaimPath(name ?? ''), values);
  }
}

/** A matcher that cannot be asked of a connection without requests: there it matches nothing. */
function ofRequest(
  matches: (request: RequestFacts) => boolean,
  found: (request: RequestFacts) => string,
  keys: readonly IndexKey[] | null,
  invalid: readonly string[] = [],
): Matcher {
  return {
    matches: ({ request }: Facts) => request !== null && matches(request),
    found: ({ request }: Facts) => (request === null ? '(no request)' : clipped(found(request))),
    keys,
    invalid,
  };
}

function hostMatcher(values: readonly string[]): Matcher {
  const set = new StringSet(values);
  return ofRequest(
    // Empty: absent (HTTP/1.0).
    ({ host }) => host !== '' && set.has(host),
    ({ hostText }) => (hostText === '' ? '(no host)' : hostText),
    keysOf(values, (value) => textKey('host', value)),
  );
}

function methodMatcher(values: readonly string[]): Matcher {
  const set = new StringSet(values);
  return ofRequest(
    ({ method }) => set.has(method),
    ({ method }) => method,
    keysOf(values, (value) => exactKey('method', value)),
  );
}

function pathMatcher(written: readonly string[]): Matcher {
  const invalid = written.filter((value) => pathProblem(value) !== null);
  const values = written.filter((value) => pathProblem(value) === null);
  const set = new StringSet(values.filter((value) => !isPathTemplate(value)).map(wireText));
  const templates = values.filter(isPathTemplate).map((value) => new PathTemplate(value));
  return ofRequest(
    ({ path }) => set.has(path) || templates.some((template) => template.matches(path)),
    ({ path }) => path,
    keysOf(values, pathKey),
    invalid,
  );
}

function pathKey(value: string): IndexKey | null {
  if (!isPathTemplate(value)) return textKey('path', wireText(value));
  // The longer end tells more.
  const { head, tail } = new PathTemplate(value);
  return head.length >= tail.length
    ? { kind: 'path', form: 'prefix', value: head }
    : { kind: 'path', form: 'suffix', value: tail };
}

/** Headers whose values an explanation does not repeat. */
const SECRET_HEADERS: readonly string[] = ['authorization', 'proxy-authorization', 'cookie'];

/** @param name in lower case. Each line of the header is a value by itself. */
function headerMatcher(name: string, values: readonly string[]): Matcher {
  const set = new StringSet(values);
  const lines = linesOf(name);
  const isPlain = name !== 'host' && !name.startsWith(':');
  // For headers `*` asks for presence: an empty value is one.
  const matches = (line: string): boolean => set.present || set.has(line);
  return ofRequest(
    (request) => lines(request).some(matches),
    (request) => {
      const found = lines(request);
      if (found.length === 0) return `(no ${name})`;
      return SECRET_HEADERS.includes(name) ? '(not shown)' : found.join(', ');
    },
    // Pseudo-headers are no headers to look up.
    isPlain ? keysOf(values, (value) => (isExact(value) ? { kind: 'header', name, value } : null)) : null,
  );
}

/** Pseudo-headers are asked for as in Envoy, which knows Host by its name in HTTP/2. */
function linesOf(name: string): (request: RequestFacts) => readonly string[] {
  switch (name) {
    case ':method':
      return ({ method }) => [method];
    case ':path':
      return ({ target }) => [target];
    case ':authority':
    case 'host':
      return ({ hostText }) => (hostText === '' ? [] : [hostText]);
    default:
      return (request) => request.header(name);
  }
}

function principalMatcher(values: readonly string[]): Matcher {
  const parsed = values.map(parseRequestPrincipal);
  // Most ask for one subject: a list of thousands then is one look-up.
  const bySubject = Map.groupBy(parsed, ({ subject }) => (subject.kind === 'exact' ? subject.text : null));
  const patterns = bySubject.get(null) ?? [];
  const any = (list: readonly RequestPrincipalMatch[], { issuer, subject }: RequestFacts): boolean => {
    for (const match of list) if (matchesPrincipal(match, issuer, subject)) return true;
    return false;
  };
  return ofRequest(
    (request) => {
      const { subject } = request;
      const named = subject === null ? undefined : bySubject.get(subject);
      return (named !== undefined && any(named, request)) || any(patterns, request);
    },
    (request) => (request.hasClaims ? `${request.issuer ?? ''}/${request.subject ?? ''}` : NO_TOKEN),
    keysOf(values, principalKey),
  );
}

function principalKey(value: string): IndexKey | null {
  const { issuer, subject } = parseRequestPrincipal(value);
  if (subject.kind === 'exact') return { kind: 'subject', value: subject.text };
  return issuer.kind === 'exact' ? { kind: 'issuer', value: issuer.text } : null;
}

function claimMatcher(path: readonly string[], values: readonly string[]): Matcher {
  const set = new StringSet(values);
  const matches = (text: string): boolean => set.has(text);
  return ofRequest(
    (request) => request.hasClaims && request.claim(path).some(matches),
    (request) => {
      if (!request.hasClaims) return NO_TOKEN;
      const found = request.claim(path);
      return found.length === 0 ? `(no text in the claim ${path.join('.')})` : found.join(', ');
    },
    keysOf(values, (value) => (isExact(value) ? { kind: 'claim', path, value } : null)),
  );
}

const NO_TOKEN = '(no token)';
const SHOWN = 256;

/** An explanation is a line of a log, whatever a client sends. */
function clipped(text: string): string {
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}
