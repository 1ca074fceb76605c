import type { PathNormalization } from '../mesh/resources.ts';

/** A request target taken apart: what policies see as the path, and the query as it was received, with its `?` (empty where there is none). */
export interface NormalizedTarget {
  readonly path: string;
  readonly query: string;
}

const SLASH = 0x2f;
const BACKSLASH = 0x5c;
const PERCENT = 0x25;
const DOT = 0x2e;

/** What a character of a path means to BASE: to be kept, to be looked at more closely, to be percent-encoded, or never to be there. */
const KEEP = 0;
const LOOK = 1;
const ENCODE = 2;
const REFUSE = 3;
const MEANING = new Uint8Array(256);
MEANING.fill(REFUSE, 0, 0x21);
MEANING[0x7f] = REFUSE;
MEANING.fill(ENCODE, 0x80);
for (const character of '"<>^`{|}') MEANING[character.charCodeAt(0)] = ENCODE;
MEANING[PERCENT] = LOOK;
MEANING[BACKSLASH] = LOOK;

/** The characters that percent-encoding changes nothing about (RFC 3986, 2.3): `%41` is `A`. */
const UNRESERVED = new Uint8Array(256);
for (const character of '-._~') UNRESERVED[character.charCodeAt(0)] = 1;
for (const [first, last] of ['09', 'AZ', 'az']) {
  UNRESERVED.fill(1, String(first).charCodeAt(0), String(last).charCodeAt(0) + 1);
}

/**
 * Makes the path of a request target plain, once, in one of Istio's modes (the semantics of August 2026): the result is what policies see and what
 * the application gets. `target` is in origin form, one byte a character; `*` and the empty target of CONNECT stay as they are. A fragment is
 * dropped, the query is never touched. Null: the path has no one meaning, and the request is to be refused with 400.
 */
export function normalizePath(target: string, mode: PathNormalization): NormalizedTarget | null {
  const fragment = target.indexOf('#');
  const whole = fragment < 0 ? target : target.slice(0, fragment);
  const question = whole.indexOf('?');
  const raw = question < 0 ? whole : whole.slice(0, question);
  const query = question < 0 ? '' : whole.slice(question);
  if (whole === '' || whole === '*') return { path: whole, query };
  if (raw.charCodeAt(0) !== SLASH) return null;
  const path = mode === 'NONE' || isPlain(raw, mode) ? raw : normalized(raw, mode);
  return path === null ? null : { path, query };
}

/** Whether no mode would change it: the common case, in one pass and without a new string. */
function isPlain(path: string, mode: PathNormalization): boolean {
  const merges = mode !== 'BASE';
  let afterSlash = false;
  for (let at = 0; at < path.length; at++) {
    const code = path.charCodeAt(at);
    // Beyond 0xff there is no entry: not plain.
    if (MEANING[code] !== KEEP) return false;
    if (afterSlash && (code === DOT || (merges && code === SLASH))) return false;
    afterSlash = code === SLASH;
  }
  return true;
}

function normalized(raw: string, mode: PathNormalization): string | null {
  // Once only, and before anything else is decoded: `%252f` holds no `%2f`.
  const unescaped = mode === 'DECODE_AND_MERGE_SLASHES' ? raw.replace(/%2f/gi, '/').replace(/%5c/gi, '\\') : raw;
  const characters = normalizedCharacters(unescaped);
  if (characters === null) return null;
  const path = withoutDotSegments(characters);
  return mode === 'BASE' || path === '//' ? path : path.replace(/\/{2,}/g, '/');
}

/**
 * `\` becomes `/`, escapes of unreserved characters are decoded, characters that do not belong in a path encoded. A `%` that starts no escape
 * stays, as in Envoy, unless decoding what follows would make it start one (`%%32e`): that path would mean another thing to whoever decodes next.
 */
function normalizedCharacters(path: string): string | null {
  let result = '';
  /** Where in `result` the last `%` without an escape stands. */
  let stray = Number.NEGATIVE_INFINITY;
  for (let at = 0; at < path.length; at++) {
    const code = path.charCodeAt(at);
    const meaning = code < 256 ? MEANING[code] : REFUSE;
    if (meaning === REFUSE) return null;
    if (meaning === KEEP) result += path.charAt(at);
    else if (code === BACKSLASH) result += '/';
    else if (meaning === ENCODE) result += percentEncoded(code);
    else {
      const escaped = escapedByte(path, at);
      if (escaped === 0) return null;
      if (escaped < 0) {
        stray = result.length;
        result += '%';
        continue;
      }
      result += UNRESERVED[escaped] === 1 ? String.fromCharCode(escaped) : path.slice(at, at + 3);
      at += 2;
    }
    if (result.length - stray === 3 && escapedByte(result, stray) >= 0) return null;
  }
  return result;
}

function percentEncoded(code: number): string {
  return `%${code < 16 ? '0' : ''}${code.toString(16).toUpperCase()}`;
}

/** The byte that the escape at `at` stands for; -1 where it is none. */
function escapedByte(text: string, at: number): number {
  const high = hexDigit(text.charCodeAt(at + 1));
  const low = hexDigit(text.charCodeAt(at + 2));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/** -1 for what is none, not-a-number (the end of the text) included. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/** RFC 3986, 5.2.4, on an absolute path. A dot segment with parameters (`..;x`) is one too: servers that strip parameters take it for one. */
function withoutDotSegments(path: string): string {
  if (!path.includes('/.')) return path;
  const segments = path.split('/');
  const kept: string[] = [];
  for (let index = 1; index < segments.length; index++) {
    const segment = segments[index] ?? '';
    const dots = dotSegment(segment);
    if (dots === 0) {
      kept.push(segment);
      continue;
    }
    if (dots === 2) kept.pop();
    // A path that ends in a dot segment ends in a slash.
    if (index === segments.length - 1) kept.push('');
  }
  return `/${kept.join('/')}`;
}

/** 1 for `.`, 2 for `..`, 0 for any other segment; parameters do not count. */
function dotSegment(segment: string): 0 | 1 | 2 {
  const parameters = segment.indexOf(';');
  const name = parameters < 0 ? segment : segment.slice(0, parameters);
  return name === '.' ? 1 : name === '..' ? 2 : 0;
}
