import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import { type OwnFields, readFields } from './field-rules.ts';
import { Http2ResponseHead } from './heads.ts';

const SWITCHING_PROTOCOLS = 101;

/** Reads and checks the head of a response (RFC 9113, 8.3.2). @returns a string: what is malformed */
export function readResponse(headers: HeaderList, ends: boolean): Http2ResponseHead | string {
  const [first] = headers;
  if (first?.[0] !== ':status' || !/^[1-5][0-9][0-9]$/.test(first[1])) return ':status is missing or not admissible';
  const own: OwnFields = { contentLength: null, host: null, lines: [], bytes: ':status'.length + first[1].length };
  const fault = readFields(headers, 1, own, false);
  if (fault !== null) return fault;
  const status = Number(first[1]);
  // RFC 9113, 8.6: there is nothing to switch to.
  if (status === SWITCHING_PROTOCOLS) return 'status 101 in HTTP/2';
  if (status < 200 && (ends || own.contentLength !== null)) return 'an interim response that ends, or has a length';
  return new Http2ResponseHead(status, own.contentLength, own.bytes, own.lines);
}

/** Whether a response has no body whatever its fields say (RFC 9110, 6.4.1). */
export function isBodyless(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304;
}
