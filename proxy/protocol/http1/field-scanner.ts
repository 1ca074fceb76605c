import type { HttpLimits } from '../../worker/messages.ts';
import { ConnectionOptions, listHas } from './connection-options.ts';
import {
  CONNECTION,
  CONTENT_LENGTH,
  EXPECT,
  HASH_FACTOR,
  HASH_MASK,
  HASHED,
  HOST,
  LOOK_ALIKE,
  OTHER,
  specialField,
  TE,
  TRANSFER_ENCODING,
  UPGRADE,
} from './field-names.ts';
import { DROPPED, MAX_NAME, NAME_BITS } from './fields.ts';
import type { HeadError, HeadStatus } from './framing.ts';
import {
  COLON,
  CR,
  equalsToken,
  isDigit,
  LF,
  SPACE,
  skipSpaces,
  skipValue,
  TAB,
  TOKEN_LOWER,
  trimSpaces,
} from './grammar.ts';

/** Answers of the scanner in place of a position. */
export const UNFINISHED = -1;
export const REFUSED = -2;

/** Below 10^15: exact in a double, and more than anybody sends. */
const MAX_LENGTH_DIGITS = 15;

/** A Content-Length of no field. */
export const NO_LENGTH = -1;

/**
 * Reads the field lines of a head or trailer section, once and strictly (RFC 9112, section 5). One scanner serves a whole thread: scanning never
 * yields. ALWAYS: a line is judged when its LF is there, not before, and limits before grammar: so the answer does not depend on how the bytes were split.
 */
export class FieldScanner {
  /** Two numbers a line: its offset from the start of the message, and its name's hash and length; DROPPED in place of these where the codec owns it. */
  entries = new Int32Array(256);
  count = 0;
  hosts = 0;
  hostStart = 0;
  hostEnd = 0;
  contentLength = NO_LENGTH;
  chunked = false;
  upgrades = 0;
  upgradeStart = 0;
  upgradeEnd = 0;
  teTrailers = false;
  expects = false;
  readonly connection = new ConnectionOptions();

  status: HeadStatus = 400;
  reason = '';
  /** Position that the message must end by. */
  #limit = 0;
  #headerCount = 0;

  #reset(limits: HttpLimits): void {
    if (this.entries.length < 2 * limits.headerCount) this.entries = new Int32Array(2 * limits.headerCount);
    this.count = 0;
    this.hosts = 0;
    this.contentLength = NO_LENGTH;
    this.chunked = false;
    this.upgrades = 0;
    this.teTrailers = false;
    this.expects = false;
    this.connection.reset();
  }

  /**
   * Scans `bytes[from, end)` of a message that begins at `start`; offsets are from `origin`.
   * @returns the position after the empty line, UNFINISHED, or REFUSED with `status` and `reason` set
   */
  scan(bytes: Buffer, from: number, start: number, end: number, origin: number, limits: HttpLimits): number {
    this.#reset(limits);
    const limit = start + limits.headerBytes;
    const { headerCount } = limits;
    this.#limit = limit;
    this.#headerCount = headerCount;
    const { entries } = this;
    let p = from;
    // One loop that fits no screen well: calls a line would cost more than the lines.
    for (;;) {
      const lineStart = p;
      let hash = 0;
      let byte = 0;
      while (p < end) {
        byte = HASHED[bytes[p] ?? 0] ?? 0;
        if (byte === 0) break;
        hash = (Math.imul(hash, HASH_FACTOR) + byte) | 0;
        p++;
      }
      const nameEnd = p;
      if (p >= end) return this.#unfinished(end);
      if (bytes[p] !== COLON) {
        if (p > lineStart || bytes[p] !== CR) return this.#refuseName(bytes, lineStart, p, end);
        if (p + 1 >= end) return this.#unfinished(end);
        if (bytes[p + 1] !== LF) return this.#refuse(bytes, p, end, 'CR without LF');
        return p + 2 > limit ? this.fail(431, 'the head is longer than allowed') : p + 2;
      }
      p = skipValue(bytes, p + 1, end);
      if (p >= end) return this.#unfinished(end);
      const valueEnd = p;
      if (bytes[p] !== CR) return this.#refuse(bytes, p, end, 'a control byte or bare LF in a field');
      if (p + 1 >= end) return this.#unfinished(end);
      if (bytes[p + 1] !== LF) return this.#refuse(bytes, p + 1, end, 'CR without LF');
      p += 2;
      const nameLength = nameEnd - lineStart;
      if (nameLength === 0 || nameLength > MAX_NAME || p > limit || this.count >= headerCount) {
        return this.#refuse(bytes, p - 1, end, 'a field name is empty or too long');
      }
      const special = specialField(bytes, lineStart, nameLength, hash);
      const at = 2 * this.count++;
      entries[at] = lineStart - origin;
      entries[at + 1] = ((hash & HASH_MASK) << NAME_BITS) | nameLength;
      if (special !== OTHER) {
        if (special !== HOST && special !== EXPECT) entries[at + 1] = DROPPED;
        if (!this.#readSpecial(special, bytes, nameEnd + 1, valueEnd)) return REFUSED;
      }
    }
  }

  fail(status: HeadStatus, reason: string): number {
    this.status = status;
    this.reason = reason;
    return REFUSED;
  }

  error(): HeadError {
    return { kind: 'error', status: this.status, reason: this.reason };
  }

  #unfinished(end: number): number {
    return end > this.#limit ? this.fail(431, 'the head is longer than allowed') : UNFINISHED;
  }

  /** A line that breaks the grammar at `p`. */
  #refuse(bytes: Buffer, p: number, end: number, reason: string): number {
    let newline = p;
    while (newline < end && bytes[newline] !== LF) newline++;
    if (newline >= end) return this.#unfinished(end);
    if (newline >= this.#limit) return this.fail(431, 'the head is longer than allowed');
    if (this.count >= this.#headerCount) return this.fail(431, 'more fields than allowed');
    return this.fail(400, reason);
  }

  #refuseName(bytes: Buffer, lineStart: number, p: number, end: number): number {
    const space = bytes[p] === SPACE || bytes[p] === TAB;
    const reason = !space
      ? 'a field name is not a token'
      : p === lineStart
        ? 'a folded line, or white space before the first field'
        : 'white space before the colon of a field';
    return this.#refuse(bytes, p, end, reason);
  }

  #readSpecial(special: number, bytes: Buffer, from: number, to: number): boolean {
    const start = skipSpaces(bytes, from, to);
    const end = trimSpaces(bytes, start, to);
    switch (special) {
      case HOST:
        this.hosts++;
        this.hostStart = start;
        this.hostEnd = end;
        return true;
      case CONTENT_LENGTH:
        return this.#readContentLength(bytes, start, end);
      case TRANSFER_ENCODING:
        return this.#readTransferEncoding(bytes, start, end);
      case CONNECTION:
        if (this.connection.read(bytes, start, end)) return true;
        this.fail(400, 'Connection is not a list of tokens, or too long a one');
        return false;
      case UPGRADE:
        this.upgrades++;
        this.upgradeStart = start;
        this.upgradeEnd = end;
        return true;
      case TE:
        if (listHas(bytes, start, end, 'trailers')) this.teTrailers = true;
        return true;
      case EXPECT:
        return this.#readExpect(bytes, start, end);
      case LOOK_ALIKE:
        this.fail(400, 'a field name spelt with _ that others take for one of ours');
        return false;
      default:
        return true;
    }
  }

  /** Decimal digits and nothing else, without leading zeros; a list is refused even if its members are equal (RFC 9112, section 6.3, allows both). */
  #readContentLength(bytes: Buffer, start: number, end: number): boolean {
    let length = 0;
    let p = start;
    for (; p < end && p - start <= MAX_LENGTH_DIGITS && isDigit(bytes[p] ?? 0); p++) {
      length = length * 10 + (bytes[p] ?? 0) - 0x30;
    }
    const digits = p - start;
    if (p < end || digits === 0 || digits > MAX_LENGTH_DIGITS || (digits > 1 && bytes[start] === 0x30)) {
      this.fail(400, 'Content-Length is not a decimal number');
      return false;
    }
    if (this.contentLength !== NO_LENGTH) {
      this.fail(400, 'more than one Content-Length');
      return false;
    }
    this.contentLength = length;
    return true;
  }

  /** Exactly one coding, `chunked`. Another one by itself is not implemented (501); everything else is malformed or ambiguous (400). */
  #readTransferEncoding(bytes: Buffer, start: number, end: number): boolean {
    if (!this.chunked && equalsToken(bytes, start, end, 'chunked')) {
      this.chunked = true;
      return true;
    }
    let p = start;
    while (p < end && TOKEN_LOWER[bytes[p] ?? 0] !== 0) p++;
    const other = !this.chunked && p === end && p > start;
    this.fail(other ? 501 : 400, 'Transfer-Encoding is not chunked, once');
    return false;
  }

  /** Other expectations, and this one disguised, desynchronise hops that read it differently. */
  #readExpect(bytes: Buffer, start: number, end: number): boolean {
    if (!this.expects && equalsToken(bytes, start, end, '100-continue')) {
      this.expects = true;
      return true;
    }
    this.fail(400, 'Expect is not 100-continue, once');
    return false;
  }
}
