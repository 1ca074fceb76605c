import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import { isDigit } from '../../protocol/http1/grammar.ts';
import { type OwnFields, readFields } from './field-rules.ts';
import { Http2ResponseHead } from './heads.ts';

const SWITCHING_PROTOCOLS = 101;

/** 100 to 599 in three digits; 0 where it is none. */
function readStatus(text: string): number {
  const [a, b, c] = [text.charCodeAt(0), text.charCodeAt(1), text.charCodeAt(2)];
  if (text.length !== 3 || !isDigit(a) || !isDigit(b) || !isDigit(c)) return 0;
  const status = (a - 0x30) * 100 + (b - 0x30) * 10 + c - 0x30;
  return status >= 100 && status <= 599 ? status : 0;
}

/** Reads and checks the head of a response (RFC 9113, 8.3.2). @returns a string: what is malformed */
export function readResponse(headers: HeaderList, ends: boolean): Http2ResponseHead | string {
  const first = headers[0];
  const status = first?.[0] === ':status' ? readStatus(first[1]) : 0;
  if (first === undefined || status === 0) return ':status is missing or not admissible';
  const own: OwnFields = { contentLength: null, host: null, lines: [], bytes: ':status'.length + first[1].length };
  const fault = readFields(headers, 1, own, false);
  if (fault !== null) return fault;
  // RFC 9113, 8.6: there is nothing to switch to.
  if (status === SWITCHING_PROTOCOLS) return 'status 101 in HTTP/2';
  if (status < 200 && (ends || own.contentLength !== null)) return 'an interim response that ends, or has a length';
  return new Http2ResponseHead(status, own.contentLength, own.bytes, own.lines);
}

/** Whether a response has no body whatever its fields say (RFC 9110, 6.4.1). */
export function isBodyless(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304;
}
