import { asObject, field } from '../json.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import type { TokenHead } from './head.ts';

/** What of a verified token a rule tells the application, in headers. Names are in lower case. */
export interface TokenOutputs {
  /** Gets the payload as it was in the token: base64url. */
  readonly payload: string | null;
  readonly claims: readonly ClaimOutput[];
}

export interface ClaimOutput {
  readonly header: string;
  /** From the payload down: `a.b` in the manifest. */
  readonly path: readonly string[];
}

/**
 * Names that outputs can never have: they frame or route the message, or say who the peer is. An output to one of them is left out, so that the
 * application gets nothing rather than something that it takes for what it is not.
 */
const RESERVED = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'te',
  'trailer',
  'upgrade',
  'keep-alive',
  'proxy-connection',
  'expect',
  'x-forwarded-client-cert',
]);

/** RFC 9110, 5.6.2: a token, in lower case. A pseudo-header or a line break is none. */
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;

export function mayBeSet(header: string): boolean {
  return FIELD_NAME.test(header) && !RESERVED.has(header);
}

/** To many applications (CGI and its heirs) `x_user` and `x-user` are one header. */
export function foldedName(header: string): string {
  return header.includes('_') ? header.replaceAll('_', '-') : header;
}

/** `names` are folded. */
export function removeHeaders(head: Pick<TokenHead, 'removeWhere'>, names: ReadonlySet<string>): void {
  head.removeWhere((name) => names.has(foldedName(name)));
}

export function setOutputs(head: TokenHead, outputs: TokenOutputs, claims: JsonObject, payload: string): void {
  if (outputs.payload !== null) head.set(outputs.payload, payload);
  for (const { header, path } of outputs.claims) {
    const value = headerValue(claimAt(claims, path));
    if (value !== null) head.set(header, value);
  }
}

function claimAt(claims: JsonObject, path: readonly string[]): JsonValue | undefined {
  let value: JsonValue | undefined = claims;
  for (const name of path) value = field(asObject(value), name);
  return value;
}

/**
 * Strings, whole numbers and booleans (Istio's outputClaimToHeaders). Null, and so no header, for anything else, and where a header cannot say
 * exactly what the claim says: control characters, blanks at its ends, numbers beyond what a double holds exactly.
 */
function headerValue(value: JsonValue | undefined): string | null {
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : null;
  if (typeof value !== 'string' || value === '' || !isPlain(value)) return null;
  // One byte a character: the text's UTF-8.
  return Buffer.from(value, 'utf8').toString('latin1');
}

function isPlain(text: string): boolean {
  if (text !== text.trim() || !text.isWellFormed()) return false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || code === 0x7f) return false;
  }
  return true;
}
