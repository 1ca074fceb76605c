import type { HttpLimits } from '../../worker/messages.ts';
import { REFUSED, UNFINISHED } from './field-scanner.ts';
import type { HeadError, HeadStatus } from './framing.ts';
import { CR, isDigit, LF, SPACE, skipValue } from './grammar.ts';

/** Longest method. */
const MAX_METHOD = 20;
/** What a request line has at most besides its target: method, two spaces, version, CRLF. */
const AROUND_TARGET = MAX_METHOD + 2 + 'HTTP/1.1'.length + 2;
const HASH = 0x23;
const DASH = 0x2d;
const DOT = 0x2e;
/** `HTTP/` */
const NAME: readonly number[] = [0x48, 0x54, 0x54, 0x50, 0x2f];

function requestLineLimit(limits: HttpLimits): number {
  return Math.min(limits.targetBytes + AROUND_TARGET, limits.headerBytes);
}

/** Whether a request line that has not ended became too long with the bytes from `seen` to `length`. */
export function isRequestLineLimitCrossed(seen: number, length: number, limits: HttpLimits): boolean {
  const limit = requestLineLimit(limits);
  // The two bytes are the CRLF that may come before.
  return seen < limit + 2 && length >= limit;
}

/** Reads request lines and status lines (RFC 9112, sections 3 and 4). One for all messages: reading never yields. */
export class FirstLine {
  version: 'http/1.0' | 'http/1.1' = 'http/1.1';
  methodLength = 0;
  targetStart = 0;
  targetEnd = 0;
  /** 100 to 599. */
  code = 0;
  reasonStart = 0;
  reasonEnd = 0;
  /** A status line of HTTP/1.1 with both of its spaces. */
  verbatim = false;

  #status: HeadStatus = 400;
  #reason = '';

  error(): HeadError {
    return { kind: 'error', status: this.#status, reason: this.#reason };
  }

  /** @returns where the fields begin, UNFINISHED, or REFUSED */
  readRequest(bytes: Buffer, from: number, end: number, limits: HttpLimits): number {
    const limit = from + requestLineLimit(limits);
    let p = from;
    while (p < end && isMethodByte(bytes[p] ?? 0)) p++;
    this.methodLength = p - from;
    if (p < end && (bytes[p] !== SPACE || p === from || bytes[from] === DASH || p - from > MAX_METHOD)) {
      return this.#refuseRequest(bytes, p, end, limit, 'the method is not of capitals');
    }
    const targetStart = p + 1;
    for (p = targetStart; p < end; p++) {
      const byte = bytes[p] ?? 0;
      if (byte <= SPACE || byte >= 0x7f || byte === HASH) break;
    }
    if (p < end && (bytes[p] !== SPACE || p === targetStart)) {
      return this.#refuseRequest(
        bytes,
        p,
        end,
        limit,
        'the request target has bytes that none may have, or no version follows',
      );
    }
    this.targetStart = targetStart;
    this.targetEnd = p;
    const versionAt = p + 1;
    p = this.#readVersion(bytes, versionAt, end);
    if (p < end && (p < versionAt + 8 || bytes[p] !== CR))
      return this.#refuseRequest(bytes, p, end, limit, 'no HTTP version');
    if (p + 1 < end && bytes[p + 1] !== LF) return this.#refuseRequest(bytes, p + 1, end, limit, 'CR without LF');
    if (p + 1 >= end) return this.#refuseRequest(bytes, end, end, limit, '');
    if (p + 2 > limit || this.targetEnd - targetStart > limits.targetBytes)
      return this.#fail(414, 'the request target is longer than allowed');
    return this.#takeVersion(bytes, versionAt) ? p + 2 : this.#fail(505, 'neither HTTP/1.0 nor HTTP/1.1');
  }

  /** @returns where the fields begin, UNFINISHED, or REFUSED */
  readStatus(bytes: Buffer, start: number, end: number, limits: HttpLimits): number {
    const limit = start + limits.headerBytes;
    let p = this.#readVersion(bytes, start, end);
    const codeAt = start + 9;
    if (p < end && (p < start + 8 || bytes[p] !== SPACE))
      return this.#refuseStatus(bytes, p, end, limit, 'no HTTP version');
    for (p = Math.min(codeAt, end); p < end && p < codeAt + 3 && isDigit(bytes[p] ?? 0); ) p++;
    if (p < end && p < codeAt + 3) return this.#refuseStatus(bytes, p, end, limit, 'the status is not of three digits');
    const spaced = p < end && bytes[p] === SPACE;
    this.reasonStart = spaced ? p + 1 : p;
    if (spaced) p = skipValue(bytes, p + 1, end);
    this.reasonEnd = p;
    if (p < end && bytes[p] !== CR)
      return this.#refuseStatus(bytes, p, end, limit, 'a status line with a control byte or bare LF');
    if (p + 1 < end && bytes[p + 1] !== LF) return this.#refuseStatus(bytes, p + 1, end, limit, 'CR without LF');
    if (p + 1 >= end) return this.#refuseStatus(bytes, end, end, limit, '');
    if (p + 2 > limit) return this.#fail(431, 'the head is longer than allowed');
    if (!this.#takeVersion(bytes, start)) return this.#fail(505, 'neither HTTP/1.0 nor HTTP/1.1');
    this.code = 0;
    for (let i = codeAt; i < codeAt + 3; i++) this.code = this.code * 10 + (bytes[i] ?? 0) - 0x30;
    this.verbatim = spaced && this.version === 'http/1.1';
    return this.code >= 100 && this.code <= 599 ? p + 2 : this.#fail(400, 'a status outside of 100 to 599');
  }

  /** How far `HTTP/d.d` goes from `at`: 8 bytes further where it is all there. */
  #readVersion(bytes: Buffer, at: number, end: number): number {
    let p = at;
    for (; p < end && p < at + 8; p++) {
      const byte = bytes[p] ?? 0;
      const i = p - at;
      if (i < 5 ? byte !== NAME[i] : i === 6 ? byte !== DOT : !isDigit(byte)) break;
    }
    return p;
  }

  #takeVersion(bytes: Buffer, at: number): boolean {
    const minor = bytes[at + 7];
    this.version = minor === 0x30 ? 'http/1.0' : 'http/1.1';
    return bytes[at + 5] === 0x31 && (minor === 0x30 || minor === 0x31);
  }

  #fail(status: HeadStatus, reason: string): number {
    this.#status = status;
    this.#reason = reason;
    return REFUSED;
  }

  /** A line that breaks the grammar at `p`, or has not ended at `end`; judged when its LF is there, and for its length first. */
  #refuseRequest(bytes: Buffer, p: number, end: number, limit: number, reason: string): number {
    const newline = findNewline(bytes, p, end);
    if (newline >= limit || (newline === end && end > limit))
      return this.#fail(414, 'the request line is longer than allowed');
    return newline === end ? UNFINISHED : this.#fail(400, reason);
  }

  #refuseStatus(bytes: Buffer, p: number, end: number, limit: number, reason: string): number {
    const newline = findNewline(bytes, p, end);
    if (newline >= limit)
      return newline === end && end <= limit ? UNFINISHED : this.#fail(431, 'the head is longer than allowed');
    return newline === end ? UNFINISHED : this.#fail(400, reason);
  }
}

/** The first LF at or after `p`; `end` where there is none. */
function findNewline(bytes: Buffer, p: number, end: number): number {
  let newline = p;
  while (newline < end && bytes[newline] !== LF) newline++;
  return newline;
}

/** Methods are tokens in capitals (RFC 9110, section 9.1); a few have a hyphen within. */
function isMethodByte(byte: number): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || byte === DASH;
}
