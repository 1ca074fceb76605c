import { type HeaderList, MEMO_SLOTS, memoSlot } from '../../protocol/hpack/header-list.ts';
import { isLookAlike, mayBeTrailer } from '../../protocol/http1/field-names.ts';
import { isAdmissibleValue, isDigit, isLowerCaseToken, SPACE, TAB } from '../../protocol/http1/grammar.ts';
import type { Field } from './fields.ts';

/** Why a message is malformed or too large, and what a server answers. */
export interface Fault {
  readonly status: 400 | 414 | 431;
  readonly detail: string;
}

export function malformed(detail: string): Fault {
  return { status: 400, detail };
}

/** Longest number that is exact. */
const MAX_LENGTH_DIGITS = 15;

/** No control bytes, and no whitespace at either end (RFC 9113, 8.2.1). */
function isFieldValue(value: string): boolean {
  const { length } = value;
  if (length === 0) return true;
  const [first, last] = [value.charCodeAt(0), value.charCodeAt(length - 1)];
  if (first === SPACE || first === TAB || last === SPACE || last === TAB) return false;
  return isAdmissibleValue(value);
}

/** Names that belong to a connection of HTTP/1 (RFC 9113, 8.2.2): a message that has one is malformed. */
function isConnectionSpecific(name: string): boolean {
  switch (name) {
    case 'connection':
    case 'keep-alive':
    case 'proxy-connection':
    case 'transfer-encoding':
    case 'upgrade':
    case 'http2-settings':
      return true;
    default:
      return false;
  }
}

/** Larger ones are not remembered: they would be kept alive. Bytes of name and value. */
const REMEMBERED_BYTES = 128;
/**
 * Fields that were found good lately, by `memoSlot`: most of a message was in the one before. NEVER one that is more to the codec than a line, in
 * requests or in responses, nor a secret.
 */
const passed: (Field | null)[] = new Array<Field | null>(MEMO_SLOTS).fill(null);

function hasPassed(field: Field, slot: number): boolean {
  const known = passed[slot] ?? null;
  return known !== null && (known === field || (known[1] === field[1] && known[0] === field[0]));
}

function notePassed(field: Field, slot: number): void {
  const name = field[0];
  if (name.length + field[1].length > REMEMBERED_BYTES) return;
  switch (name) {
    case 'host':
    case 'authorization':
    case 'proxy-authorization':
    case 'cookie':
    case 'set-cookie':
    // Different in every message.
    case 'x-request-id':
    case 'traceparent':
      return;
    default:
      passed[slot] = field;
  }
}

/** What the codec takes out of a message's fields. */
export interface OwnFields {
  contentLength: number | null;
  /** Of requests. */
  host: string | null;
  readonly lines: Field[];
  /** Bytes of all names and values, pseudo-header fields too. */
  bytes: number;
}

function readLength(value: string, own: OwnFields): string | null {
  if (own.contentLength !== null) return 'more than one content-length';
  const { length } = value;
  let number = 0;
  for (let i = 0; i < length && i < MAX_LENGTH_DIGITS; i++) {
    const code = value.charCodeAt(i);
    if (!isDigit(code)) return 'content-length is no number';
    number = number * 10 + code - 0x30;
  }
  if (length === 0 || length > MAX_LENGTH_DIGITS) return 'content-length is no number';
  own.contentLength = number;
  return null;
}

/**
 * Checks and takes the fields from index `from` on, where the pseudo-header fields have ended (RFC 9113, 8.2 and 8.3).
 * @returns what is malformed; null: nothing
 */
export function readFields(headers: HeaderList, from: number, own: OwnFields, isRequest: boolean): string | null {
  for (let i = from; i < headers.length; i++) {
    const field = headers[i] as Field;
    const name = field[0];
    const value = field[1];
    own.bytes += name.length + value.length;
    const slot = memoSlot(name, value);
    if (hasPassed(field, slot)) {
      own.lines.push(field);
      continue;
    }
    if (name.charCodeAt(0) === 0x3a) return 'a pseudo-header field is unknown, doubled or out of place';
    if (!isLowerCaseToken(name)) return 'a field name is not admissible';
    if (isLookAlike(name)) return 'a field name spelt with _ that others take for one of ours';
    if (!isFieldValue(value)) return `the value of ${name} is not admissible`;
    if (isConnectionSpecific(name)) return `${name} has no place in HTTP/2`;
    let fault: string | null = null;
    if (name === 'content-length') fault = readLength(value, own);
    else if (name === 'te' && value.toLowerCase() !== 'trailers') fault = 'te is not trailers';
    else if (name === 'host' && isRequest) {
      if (own.host !== null) fault = 'more than one host';
      own.host = value;
    } else {
      own.lines.push(field);
      notePassed(field, slot);
    }
    if (fault !== null) return fault;
  }
  return null;
}

/**
 * Fields after a body (RFC 9110, 6.5.1): none that says how to read or route what came before. Of a request none either that would have been decided
 * about in its head: whoever sends it late hopes that somebody merges them.
 */
export function readTrailers(headers: HeaderList, isRequest: boolean): Field[] | string {
  const own: OwnFields = { contentLength: null, host: null, lines: [], bytes: 0 };
  const fault = readFields(headers, 0, own, true);
  if (fault !== null) return `trailers: ${fault}`;
  if (own.contentLength !== null || own.host !== null) return 'trailers that say how to read the message';
  if (isRequest) for (const [name] of own.lines) if (!mayBeTrailer(name)) return `trailers: ${name} has no place there`;
  return own.lines;
}
