import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import { isLookAlike } from '../../protocol/http1/field-names.ts';
import { isLowerCaseToken, isValueByte, SPACE, TAB } from '../../protocol/http1/grammar.ts';
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
  for (let i = 0; i < length; i++) if (!isValueByte(value.charCodeAt(i))) return false;
  return true;
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
  if (!/^[0-9]+$/.test(value) || value.length > MAX_LENGTH_DIGITS) return 'content-length is no number';
  own.contentLength = Number(value);
  return null;
}

/**
 * Checks and takes the fields from index `from` on, where the pseudo-header fields have ended (RFC 9113, 8.2 and 8.3).
 * @returns what is malformed; null: nothing
 */
export function readFields(headers: HeaderList, from: number, own: OwnFields, isRequest: boolean): string | null {
  for (let i = from; i < headers.length; i++) {
    const field = headers[i] as Field;
    const [name, value] = field;
    own.bytes += name.length + value.length;
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
    } else own.lines.push(field);
    if (fault !== null) return fault;
  }
  return null;
}

/** Fields after a body (RFC 9110, 6.5.1): none that says how to read or route what came before. */
export function readTrailers(headers: HeaderList): Field[] | string {
  const own: OwnFields = { contentLength: null, host: null, lines: [], bytes: 0 };
  const fault = readFields(headers, 0, own, true);
  if (fault !== null) return `trailers: ${fault}`;
  if (own.contentLength !== null || own.host !== null) return 'trailers that say how to read the message';
  return own.lines;
}
