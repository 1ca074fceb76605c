import { CR, isValueByte, LF, TOKEN_LOWER } from './grammar.ts';

/** Largest chunk: 2^48 bytes. */
const MAX_CHUNK = 2 ** 48;
const MAX_SIZE_DIGITS = 16;
/** Bytes of all extensions of one chunk. */
const MAX_EXTENSIONS = 256;

const [SEMICOLON, EQUALS, QUOTE, BACKSLASH] = [0x3b, 0x3d, 0x22, 0x5c];

/** A hexadecimal digit's value; 0xff for any other byte. */
const HEX = new Uint8Array(256).fill(0xff);
for (const [value, digit] of [...'0123456789abcdef'].entries()) {
  HEX[digit.charCodeAt(0)] = value;
  HEX[digit.toUpperCase().charCodeAt(0)] = value;
}
const NO_DIGIT = 0xff;

const SIZE = 0;
const NAME_START = 1;
const NAME = 2;
const VALUE_START = 3;
const VALUE = 4;
const QUOTED = 5;
const ESCAPED = 6;
const AFTER_QUOTED = 7;
const END_LF = 8;

/**
 * Reads the line before a chunk's data, `chunk-size [ chunk-ext ] CRLF` (RFC 9112, section 7.1), a byte at a time. Stricter than the grammar: no white space
 * anywhere outside of quotes. Extensions are checked and forgotten.
 */
export class ChunkHeadReader {
  size = 0;
  done = false;
  failure: string | null = null;
  #state = SIZE;
  #digits = 0;
  #extensionBytes = 0;

  reset(): void {
    this.size = 0;
    this.done = false;
    this.failure = null;
    this.#state = SIZE;
    this.#digits = 0;
    this.#extensionBytes = 0;
  }

  /** @returns the position after the line, or after the byte that broke it */
  read(bytes: Buffer, start: number, end: number): number {
    let p = start;
    while (p < end && !this.done && this.failure === null) {
      const byte = bytes[p++] ?? 0;
      if (this.#state === SIZE) this.#readSize(byte);
      else if (this.#state !== END_LF) this.#readExtension(byte);
      else if (byte === LF) this.done = true;
      else this.failure = 'CR without LF after a chunk size';
    }
    return p;
  }

  #readSize(byte: number): void {
    const digit = HEX[byte] ?? NO_DIGIT;
    if (digit !== NO_DIGIT) {
      this.size = this.size * 16 + digit;
      if (++this.#digits > MAX_SIZE_DIGITS || this.size > MAX_CHUNK) this.failure = 'a chunk size is too large';
      return;
    }
    if (this.#digits > 0 && byte === CR) this.#state = END_LF;
    else if (this.#digits > 0 && byte === SEMICOLON) {
      this.#extensionBytes = 1;
      this.#state = NAME_START;
    } else this.failure = 'a chunk size is not hexadecimal';
  }

  #readExtension(byte: number): void {
    if (++this.#extensionBytes > MAX_EXTENSIONS && byte !== CR) {
      this.failure = 'the extensions of a chunk are too long';
      return;
    }
    const next = this.#afterExtensionByte(byte);
    if (next < 0) this.failure = 'a malformed chunk extension';
    else this.#state = next;
  }

  /** The next state; below 0: none. */
  #afterExtensionByte(byte: number): number {
    const token = TOKEN_LOWER[byte] !== 0;
    switch (this.#state) {
      case NAME_START:
        return token ? NAME : -1;
      case NAME:
        if (token) return NAME;
        return byte === EQUALS ? VALUE_START : afterOne(byte);
      case VALUE_START:
        return byte === QUOTE ? QUOTED : token ? VALUE : -1;
      case VALUE:
        return token ? VALUE : afterOne(byte);
      case QUOTED:
        if (byte === QUOTE) return AFTER_QUOTED;
        return byte === BACKSLASH ? ESCAPED : isValueByte(byte) ? QUOTED : -1;
      case ESCAPED:
        return isValueByte(byte) ? QUOTED : -1;
      default:
        return afterOne(byte);
    }
  }
}

function afterOne(byte: number): number {
  return byte === SEMICOLON ? NAME_START : byte === CR ? END_LF : -1;
}
