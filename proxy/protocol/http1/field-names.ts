import { TOKEN_LOWER } from './grammar.ts';

/** Fields that the codec itself reads; everything else is `OTHER`. */
export const OTHER = 0;
export const HOST = 1;
export const CONTENT_LENGTH = 2;
export const TRANSFER_ENCODING = 3;
export const CONNECTION = 4;
export const UPGRADE = 5;
export const TE = 6;
export const EXPECT = 7;
export const KEEP_ALIVE = 8;
export const PROXY_CONNECTION = 9;
export const HTTP2_SETTINGS = 10;
/** A name that a gateway to CGI or WSGI takes for one that we read or write ourselves, since `_` and `-` are one to it. */
export const LOOK_ALIKE = 11;

const SPECIAL: readonly string[] = [
  '',
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'upgrade',
  'te',
  'expect',
  'keep-alive',
  'proxy-connection',
  'http2-settings',
];

/** Of these a spelling with `_` is refused: framing, and what sidecars assert about a caller. */
const NO_LOOK_ALIKES: readonly string[] = [
  'content-length',
  'transfer-encoding',
  'x-forwarded-client-cert',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
];

/**
 * Never left out because Connection names it: it would change where a message goes, how it is framed, who it is from or what it says (RFC 9110,
 * section 7.6.1, forbids to nominate fields that are for all recipients). Prefixes end with `-`.
 */
const NOT_NOMINABLE: readonly string[] = [
  'host',
  'content-',
  'transfer-encoding',
  'expect',
  'authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
  'www-authenticate',
  'cache-control',
  'date',
  'etag',
  'location',
  'range',
  'if-',
  'origin',
  'access-control-',
  'forwarded',
  'via',
  'user-agent',
  'x-real-ip',
  'x-forwarded-',
  'x-envoy-',
  'x-istio-',
  'x-postern-',
  'x-request-id',
  'traceparent',
  'tracestate',
  'baggage',
  'x-b3-',
  'b3',
  'grpc-',
];

/**
 * Never in a trailer section (RFC 9110, section 6.5.1): framing, routing, request modifiers, authentication, response control, and how to read
 * the content; and whatever else may not be nominated, but for `etag`, `date` and gRPC's own.
 */
const NOT_IN_TRAILERS: readonly string[] = [
  ...NOT_NOMINABLE.filter((name) => !['etag', 'date', 'grpc-'].includes(name)),
  ...SPECIAL.slice(1),
  'trailer',
  'max-forwards',
  'pragma',
  'proxy-authenticate',
  'age',
  'expires',
  'retry-after',
  'vary',
  'warning',
];

function matches(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => (pattern.endsWith('-') ? name.startsWith(pattern) : name === pattern));
}

/** @param name in lower case */
export function mayBeNominated(name: string): boolean {
  return !matches(NOT_NOMINABLE, name);
}

/** @param name in lower case */
export function mayBeTrailer(name: string): boolean {
  return !matches(NOT_IN_TRAILERS, name.replaceAll('_', '-'));
}

const DASH = 0x2d;
const UNDERSCORE = 0x5f;
/** Hash of a name: `h = h * 33 + byte`, in 32 bits, of the name in lower case and with `-` for `_`. */
export const HASH_FACTOR = 33;
/** What goes into the hash; 0 for a byte that no token has. */
export const HASHED = Uint8Array.from(TOKEN_LOWER, (byte) => (byte === UNDERSCORE ? DASH : byte));
/** Bits of the hash that a line keeps. */
export const HASH_MASK = 0xf_ffff;

/** @param name in lower case, one byte a character */
export function hashOf(name: string): number {
  let hash = 0;
  for (let i = 0; i < name.length; i++) {
    hash = (Math.imul(hash, HASH_FACTOR) + (HASHED[name.charCodeAt(i) & 0xff] ?? 0)) | 0;
  }
  return hash & HASH_MASK;
}

const SLOTS = 1024;
/** By the low bits of the hash: a special field's number, or LOOK_ALIKE where only look-alikes matter. */
const slots = new Uint8Array(SLOTS);
const slotNames: string[] = new Array<string>(SLOTS).fill('');
for (const name of new Set([...SPECIAL.slice(1), ...NO_LOOK_ALIKES])) {
  const slot = hashOf(name) % SLOTS;
  if (slots[slot] !== 0) throw new Error(`field names ${slotNames[slot]} and ${name} need a table of their own`);
  slots[slot] = SPECIAL.includes(name) ? SPECIAL.indexOf(name) : LOOK_ALIKE;
  slotNames[slot] = name;
}

/** Which special field the name `bytes[start, start + length)` with this hash is. */
export function specialField(bytes: Buffer, start: number, length: number, hash: number): number {
  const id = slots[hash & (SLOTS - 1)] ?? OTHER;
  if (id === OTHER) return OTHER;
  const name = slotNames[hash & (SLOTS - 1)] ?? '';
  if (name.length !== length) return OTHER;
  let exact = true;
  for (let i = 0; i < length; i++) {
    const byte = bytes[start + i] ?? 0;
    if (HASHED[byte] !== name.charCodeAt(i)) return OTHER;
    if (byte === UNDERSCORE) exact = false;
  }
  if (exact) return id === LOOK_ALIKE ? OTHER : id;
  return NO_LOOK_ALIKES.includes(name) ? LOOK_ALIKE : OTHER;
}

/** Whether a name with `_` is taken for another by gateways that do not tell it from `-`. @param name in lower case */
export function isLookAlike(name: string): boolean {
  return name.includes('_') && NO_LOOK_ALIKES.includes(name.replaceAll('_', '-'));
}

/** Whether it is the codec that writes this field. @param name in lower case @param hash its hash */
export function isCodecField(name: string, hash: number): boolean {
  const id = slots[hash & (SLOTS - 1)] ?? OTHER;
  return id !== OTHER && id !== LOOK_ALIKE && id !== EXPECT && slotNames[hash & (SLOTS - 1)] === name;
}

/** Names seen lately in lower case, so that most need no new string: one slot a hash, replaced by whatever comes. Bounded by `CACHED_NAME` bytes each. */
const cache: string[] = new Array<string>(SLOTS).fill('');
const CACHED_NAME = 64;

/** The name at `text[start, start + length)` in lower case. */
export function lowerCaseName(text: string, start: number, length: number, hash: number): string {
  const known = cache[hash & (SLOTS - 1)] ?? '';
  if (nameEquals(text, start, length, known)) return known;
  const name = text.slice(start, start + length).toLowerCase();
  if (length > CACHED_NAME) return name;
  // A slice keeps the whole head alive: what is kept for long is a copy.
  const copy = Buffer.from(name, 'latin1').latin1Slice(0, length);
  cache[hash & (SLOTS - 1)] = copy;
  return copy;
}

/** Whether the name at `text[start, start + length)` is `lower`, in any case. */
export function nameEquals(text: string, start: number, length: number, lower: string): boolean {
  if (lower.length !== length) return false;
  for (let i = 0; i < length; i++) {
    if (TOKEN_LOWER[text.charCodeAt(start + i)] !== lower.charCodeAt(i)) return false;
  }
  return true;
}
