import type { HttpLimits } from '../../worker/messages.ts';
import { isAuthority, sameAuthority } from './authority.ts';
import { mayBeNominated } from './field-names.ts';
import { FieldScanner, NO_LENGTH, REFUSED, UNFINISHED } from './field-scanner.ts';
import type { Http1Fields } from './fields.ts';
import { FirstLine, isRequestLineLimitCrossed } from './first-line.ts';
import {
  type BodyFraming,
  CHUNKED,
  type HeadError,
  type HeadResult,
  type HeadStatus,
  INCOMPLETE,
  NO_BODY,
  RAW,
  UNTIL_CLOSE,
} from './framing.ts';
import { CR, LF } from './grammar.ts';
import { Http1RequestHead } from './request-head.ts';
import { readTarget, type TargetParts } from './request-target.ts';
import { Http1ResponseHead } from './response-head.ts';
import { readUpgrade } from './upgrade.ts';

/** Scratch of one parse: parsing never yields and keeps nothing. */
const scanner = new FieldScanner();
const line = new FirstLine();

function refuse(status: HeadStatus, reason: string): HeadError {
  return { kind: 'error', status, reason };
}

/**
 * Reads the head of a request at `bytes[start, end)` (RFC 9112, sections 2 to 6), more strictly than the RFC asks for wherever hops are known to read
 * differently. One CRLF before the request line is skipped (section 2.2). Never throws; copies what it keeps.
 *
 * The answer does not depend on how the bytes were split, since a line is judged when it is complete.
 * @param seen how many bytes from `start` on were there when this last answered `incomplete`: they are not read again until a line ends
 */
export function parseRequestHead(
  bytes: Buffer,
  start: number,
  end: number,
  limits: HttpLimits,
  seen = 0,
): HeadResult<Http1RequestHead> {
  if (seen > 0 && !hasNews(bytes, start, seen, end, limits, isRequestLineLimitCrossed(seen, end - start, limits))) {
    return INCOMPLETE;
  }
  let from = start;
  if (from < end && bytes[from] === CR) {
    if (from + 1 === end) return INCOMPLETE;
    if (bytes[from + 1] === LF) from += 2;
  }
  const fields = line.readRequest(bytes, from, end, limits);
  if (fields === UNFINISHED) return INCOMPLETE;
  if (fields === REFUSED) return line.error();
  const after = scanner.scan(bytes, fields, start, end, from, limits);
  if (after === UNFINISHED) return INCOMPLETE;
  if (after === REFUSED) return scanner.error();
  return judgeRequest(bytes, start, from, after);
}

/**
 * Reads the head of a response, as strictly. An error of whatever status means that the response is not to be used.
 * @param requestMethod of the request that it answers: HEAD and CONNECT change what follows the head
 * @param seen as for requests
 */
export function parseResponseHead(
  bytes: Buffer,
  start: number,
  end: number,
  limits: HttpLimits,
  requestMethod: string,
  seen = 0,
): HeadResult<Http1ResponseHead> {
  if (seen > 0 && !hasNews(bytes, start, seen, end, limits, false)) return INCOMPLETE;
  const fields = line.readStatus(bytes, start, end, limits);
  if (fields === UNFINISHED) return INCOMPLETE;
  if (fields === REFUSED) return line.error();
  const after = scanner.scan(bytes, fields, start, end, start, limits);
  if (after === UNFINISHED) return INCOMPLETE;
  if (after === REFUSED) return scanner.error();
  return judgeResponse(bytes, start, after, requestMethod);
}

/** Whether what came since can change the answer: a line ended, or a limit was passed. */
function hasNews(
  bytes: Buffer,
  start: number,
  seen: number,
  end: number,
  limits: HttpLimits,
  crossed: boolean,
): boolean {
  if (crossed || end - start > limits.headerBytes) return true;
  for (let p = start + seen; p < end; p++) if (bytes[p] === LF) return true;
  return false;
}

function judgeRequest(bytes: Buffer, start: number, from: number, after: number): HeadResult<Http1RequestHead> {
  const { version, targetStart, targetEnd } = line;
  const text = bytes.latin1Slice(from, after);
  const method = text.slice(0, line.methodLength);
  // Reserved so that the preface of HTTP/2 is never a request of HTTP/1 (RFC 9113, section 11.6).
  if (method === 'PRI') return refuse(400, 'PRI is not a method of HTTP/1');
  const parts = readTarget(bytes, targetStart, targetEnd, method);
  if (parts === null) return refuse(400, 'the form of the request target is not one of this method');

  const fault = hostFault(bytes, version, parts);
  if (fault !== null) return refuse(400, fault);
  const framing = requestFraming(method, version);
  if ('status' in framing) return framing;
  const upgrade =
    version === 'http/1.0' || framing !== NO_BODY || method === 'CONNECT' ? null : readUpgrade(bytes, scanner);
  const hosted = scanner.hosts === 1;
  const authority = hosted
    ? text.slice(scanner.hostStart - from, scanner.hostEnd - from)
    : text.slice(parts.start - from, parts.end - from);
  const head = new Http1RequestHead(
    {
      version,
      method,
      target: parts.target ?? text.slice(targetStart - from, targetEnd - from),
      authority,
      addsHost: !hosted && parts.end > parts.start,
      verbatim: (version === 'http/1.1' || authority === '') && (parts.target === null || method === 'CONNECT'),
      upgrade,
    },
    text,
    scanner,
    after - from - 2,
    after - start,
  );
  if (!dropNominated(head)) return refuse(400, 'Connection names a field that is not for one connection');
  const { close, keepAlive } = scanner.connection;
  return {
    kind: 'head',
    head,
    end: after,
    framing,
    keepAlive: !close && (version === 'http/1.1' || keepAlive),
    expectContinue: scanner.expects && version === 'http/1.1' && framing !== NO_BODY,
  };
}

/** Host is there once, but may be missing in HTTP/1.0, and is the authority that the target names (RFC 9112, sections 3.2 and 3.2.2). */
function hostFault(bytes: Buffer, version: string, { start, end }: TargetParts): string | null {
  const { hosts, hostStart, hostEnd } = scanner;
  if (hosts > 1) return 'more than one Host';
  if (hosts === 0) return version === 'http/1.1' ? 'no Host' : null;
  if (!isAuthority(bytes, hostStart, hostEnd, false)) return 'a malformed Host';
  if (end === start || sameAuthority(bytes, start, end, hostStart, hostEnd)) return null;
  return 'the request target names another authority than Host';
}

function requestFraming(method: string, version: string): BodyFraming | HeadError {
  const { chunked, contentLength } = scanner;
  if (chunked && contentLength !== NO_LENGTH) return refuse(400, 'both Content-Length and Transfer-Encoding');
  if (chunked && version === 'http/1.0') return refuse(400, 'Transfer-Encoding in HTTP/1.0');
  if (method === 'CONNECT' && (chunked || contentLength > 0)) return refuse(400, 'CONNECT with a body');
  if (chunked) return CHUNKED;
  return contentLength > 0 ? { kind: 'length', length: contentLength } : NO_BODY;
}

function judgeResponse(
  bytes: Buffer,
  start: number,
  after: number,
  requestMethod: string,
): HeadResult<Http1ResponseHead> {
  const { version, code: status } = line;
  const framing = responseFraming(status, version, requestMethod);
  if ('status' in framing) return framing;
  const upgrade = status === 101 ? readUpgrade(bytes, scanner) : null;
  if (status === 101 && upgrade === null) return refuse(400, '101 without one protocol to change to');
  const text = bytes.latin1Slice(start, after);
  const head = new Http1ResponseHead(
    {
      version,
      status,
      reason: text.slice(line.reasonStart - start, line.reasonEnd - start),
      verbatim: line.verbatim,
      upgrade,
    },
    text,
    scanner,
    after - start - 2,
    after - start,
  );
  if (!dropNominated(head)) return refuse(400, 'Connection names a field that is not for one connection');
  const { close, keepAlive } = scanner.connection;
  const ends = framing === UNTIL_CLOSE || framing === RAW;
  return {
    kind: 'head',
    head,
    end: after,
    framing,
    keepAlive: !close && !ends && (version === 'http/1.1' || keepAlive),
    expectContinue: false,
  };
}

/** RFC 9112, section 6.3; what would be ignored there but contradicts itself is refused. */
function responseFraming(status: number, version: string, requestMethod: string): BodyFraming | HeadError {
  const { chunked, contentLength } = scanner;
  if (chunked && contentLength !== NO_LENGTH) return refuse(400, 'both Content-Length and Transfer-Encoding');
  if (chunked && version === 'http/1.0') return refuse(400, 'Transfer-Encoding in HTTP/1.0');
  const tunnels = status === 101 || (requestMethod === 'CONNECT' && status >= 200 && status <= 299);
  if (tunnels || status < 200 || status === 204) {
    if (chunked || contentLength > 0) return refuse(400, 'a body where there can be none');
    return tunnels ? RAW : NO_BODY;
  }
  if (status === 304 || requestMethod === 'HEAD' || contentLength === 0) return NO_BODY;
  if (chunked) return CHUNKED;
  return contentLength > 0 ? { kind: 'length', length: contentLength } : UNTIL_CLOSE;
}

/** @returns false where Connection names a field that must not be lost */
function dropNominated(head: Http1Fields): boolean {
  for (const name of scanner.connection.nominated) {
    if (!mayBeNominated(name)) return false;
    head.remove(name);
  }
  return true;
}
