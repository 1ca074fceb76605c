import type { RequestHead, ResponseHead } from '../../../../proxy/protocol/http-head.ts';
import { parseRequestHead, parseResponseHead } from '../../../../proxy/protocol/http1/head-parser.ts';
import { HTTP_LIMITS } from '../../support/http-limits.ts';

const block = (first: string, lines: readonly string[]): Buffer =>
  Buffer.from([first, ...lines, '', ''].join('\r\n'), 'latin1');

export function requestHead(...lines: readonly string[]): RequestHead {
  const bytes = block('GET /a?x=1 HTTP/1.1', ['Host: orders.shop', ...lines]);
  const result = parseRequestHead(bytes, 0, bytes.length, HTTP_LIMITS);
  if (result.kind !== 'head') throw new Error(JSON.stringify(result));
  return result.head;
}

export function responseHead(...lines: readonly string[]): ResponseHead {
  const bytes = block('HTTP/1.1 200 OK', lines);
  const result = parseResponseHead(bytes, 0, bytes.length, HTTP_LIMITS, 'GET');
  if (result.kind !== 'head') throw new Error(JSON.stringify(result));
  return result.head;
}

export const namesOf = (head: RequestHead | ResponseHead): string[] => [...head.lines()].map(([name]) => name);
