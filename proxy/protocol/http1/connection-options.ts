import { equalsToken, skipSpaces, TOKEN_LOWER, trimSpaces } from './grammar.ts';

/** Other names than the well-known ones that a message's Connection fields may hold. */
const MAX_NOMINATIONS = 16;

const COMMA = 0x2c;

/**
 * The options of a message's Connection fields (RFC 9110, section 7.6.1). One for all messages: reading never yields.
 */
export class ConnectionOptions {
  close = false;
  keepAlive = false;
  upgrade = false;
  /** Names of fields, in lower case, that are for this connection only, but for those that always are. */
  readonly nominated: string[] = [];

  reset(): void {
    this.close = false;
    this.keepAlive = false;
    this.upgrade = false;
    if (this.nominated.length > 0) this.nominated.length = 0;
  }

  /** Reads one field's value. @returns false where it is no list of tokens, or too long a one. */
  read(bytes: Buffer, start: number, end: number): boolean {
    let p = start;
    while (p < end) {
      p = skipSpaces(bytes, p, end);
      const from = p;
      while (p < end && TOKEN_LOWER[bytes[p] ?? 0] !== 0) p++;
      // Empty elements are to be ignored (RFC 9110, section 5.6.1.2).
      if (p > from && !this.#take(bytes, from, p)) return false;
      p = skipSpaces(bytes, p, end);
      if (p < end && bytes[p] !== COMMA) return false;
      p++;
    }
    return true;
  }

  #take(bytes: Buffer, start: number, end: number): boolean {
    if (equalsToken(bytes, start, end, 'keep-alive')) this.keepAlive = true;
    else if (equalsToken(bytes, start, end, 'close')) this.close = true;
    else if (equalsToken(bytes, start, end, 'upgrade')) this.upgrade = true;
    else if (!ALWAYS_DROPPED.some((name) => equalsToken(bytes, start, end, name))) {
      if (this.nominated.length === MAX_NOMINATIONS) return false;
      this.nominated.push(bytes.latin1Slice(start, end).toLowerCase());
    }
    return true;
  }
}

/** To nominate these says nothing new. */
const ALWAYS_DROPPED: readonly string[] = ['te', 'http2-settings', 'proxy-connection'];

/** Whether a value is a list of tokens with this one among them. `lower` in lower case. */
export function listHas(bytes: Buffer, start: number, end: number, lower: string): boolean {
  let from = start;
  while (from < end) {
    let p = from;
    while (p < end && bytes[p] !== COMMA) p++;
    const first = skipSpaces(bytes, from, p);
    if (equalsToken(bytes, first, trimSpaces(bytes, first, p), lower)) return true;
    from = p + 1;
  }
  return false;
}
