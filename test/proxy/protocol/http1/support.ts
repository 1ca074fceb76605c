import { BodyDecoder } from '../../../../proxy/protocol/http1/body-decoder.ts';
import type { HeadResult, ParsedHead } from '../../../../proxy/protocol/http1/framing.ts';
import { parseRequestHead, parseResponseHead } from '../../../../proxy/protocol/http1/head-parser.ts';
import type { Http1RequestHead } from '../../../../proxy/protocol/http1/request-head.ts';
import type { Http1ResponseHead } from '../../../../proxy/protocol/http1/response-head.ts';
import type { HttpLimits } from '../../../../proxy/worker/messages.ts';
import { HTTP_LIMITS as LIMITS } from '../../support/http-limits.ts';

export { LIMITS };

export const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');

/** A head with these lines; the empty line comes by itself. */
export const headOf = (...lines: string[]): string => `${lines.join('\r\n')}\r\n\r\n`;

/** What the bytes are surrounded with, so that reading outside of them shows. */
const AROUND = 'x: \r\n\r\n';

/** Parses a request that lies in the middle of a buffer; the answer's `end` counts from its beginning. */
export function requestOf(text: string, limits: HttpLimits = LIMITS): HeadResult<Http1RequestHead> {
  return shifted(parseRequestHead(bytesOf(AROUND + text + AROUND), AROUND.length, AROUND.length + text.length, limits));
}

export function responseOf(text: string, method = 'GET', limits: HttpLimits = LIMITS): HeadResult<Http1ResponseHead> {
  const bytes = bytesOf(AROUND + text + AROUND);
  return shifted(parseResponseHead(bytes, AROUND.length, AROUND.length + text.length, limits, method));
}

function shifted<T>(result: HeadResult<T>): HeadResult<T> {
  return result.kind === 'head' ? { ...result, end: result.end - AROUND.length } : result;
}

/** @throws where it is not a whole and admissible head */
export function acceptedRequest(text: string): ParsedHead<Http1RequestHead> {
  const result = requestOf(text);
  if (result.kind !== 'head') throw new Error(`not accepted: ${JSON.stringify(result)}`);
  return result;
}

export function acceptedResponse(text: string, method = 'GET'): ParsedHead<Http1ResponseHead> {
  const result = responseOf(text, method);
  if (result.kind !== 'head') throw new Error(`not accepted: ${JSON.stringify(result)}`);
  return result;
}

/** What a session would see of a head that grows: the first final answer, and what it is made of in a comparable form. */
export function parseInPieces<T>(
  bytes: Buffer,
  cuts: readonly number[],
  parse: (bytes: Buffer, end: number, seen: number) => HeadResult<T>,
): HeadResult<T> {
  let seen = 0;
  for (const cut of [...cuts.map((one) => one % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)) {
    const result = parse(bytes, cut, seen);
    if (result.kind !== 'incomplete') return result;
    seen = cut;
  }
  return { kind: 'incomplete' };
}

export const requestUpTo = (bytes: Buffer, end: number, seen: number): HeadResult<Http1RequestHead> =>
  parseRequestHead(bytes, 0, end, LIMITS, seen);

export const responseUpTo = (bytes: Buffer, end: number, seen: number): HeadResult<Http1ResponseHead> =>
  parseResponseHead(bytes, 0, end, LIMITS, 'GET', seen);

/** A result as plain data. */
export function plain(result: HeadResult<Http1RequestHead | Http1ResponseHead>): unknown {
  if (result.kind !== 'head') return result;
  const { head, ...rest } = result;
  const first =
    'method' in head
      ? { method: head.method, target: head.target, authority: head.authority }
      : { status: head.status };
  return {
    ...rest,
    ...first,
    version: head.version,
    upgrade: head.upgrade,
    contentLength: head.contentLength,
    receivedBytes: head.receivedBytes,
    lines: [...head.lines()],
  };
}

export interface DecodedBody {
  readonly body: string;
  readonly done: boolean;
  readonly failure: string | null;
  readonly trailers: readonly (readonly [string, string])[];
  /** Bytes that belong to the message. */
  readonly taken: number;
}

/** Decodes a body that arrives in pieces. */
export function decodeInPieces(decoder: BodyDecoder, bytes: Buffer, cuts: readonly number[], start = 0): DecodedBody {
  let body = '';
  let p = start;
  const span = bytes.length - start;
  for (const cut of [...cuts.map((one) => start + (one % (span + 1))), bytes.length].sort((a, b) => a - b)) {
    if (cut <= p || decoder.done || decoder.failure !== null) continue;
    p = decoder.decode(bytes, p, cut, {
      onBody: (from, at, end) => {
        if (at >= end) throw new Error('an empty piece of a body');
        body += from.latin1Slice(at, end);
      },
    });
  }
  const { done, failure, trailers } = decoder;
  return { body, done, failure, trailers: [...(trailers?.lines() ?? [])], taken: p - start };
}

export function decodeChunked(text: string, cuts: readonly number[] = [], limits: HttpLimits = LIMITS): DecodedBody {
  const decoder = new BodyDecoder(limits);
  decoder.begin({ kind: 'chunked' });
  return decodeInPieces(decoder, bytesOf(text), cuts);
}
