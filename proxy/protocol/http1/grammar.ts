/** The characters of RFC 9110, section 5.6.2 and 5.5, as bytes and as one-byte characters. */

export const TAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SPACE = 0x20;
export const COLON = 0x3a;

const TCHAR = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** A token's byte in lower case; 0 for a byte that no token has. */
export const TOKEN_LOWER = new Uint8Array(256);
for (const character of TCHAR) TOKEN_LOWER[character.charCodeAt(0)] = character.toLowerCase().charCodeAt(0);

/** Visible characters, SP, HTAB and obs-text: no control byte, so neither CR, LF nor NUL. */
export function isValueByte(byte: number): boolean {
  return byte > 0x1f ? byte !== 0x7f : byte === TAB;
}

/** 1 for a byte that values may have, else 0. */
const VALUE_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => (isValueByte(byte) ? 1 : 0));

/** Where the bytes of a value end that begins at `start`. Four at a time take half as long as one by one. */
export function skipValue(bytes: Buffer, start: number, end: number): number {
  let p = start;
  for (; p + 3 < end; p += 4) {
    const first = (VALUE_BYTE[bytes[p] ?? 0] ?? 0) & (VALUE_BYTE[bytes[p + 1] ?? 0] ?? 0);
    if ((first & (VALUE_BYTE[bytes[p + 2] ?? 0] ?? 0) & (VALUE_BYTE[bytes[p + 3] ?? 0] ?? 0)) === 0) break;
  }
  while (p < end && VALUE_BYTE[bytes[p] ?? 0] === 1) p++;
  return p;
}

export function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

/** Whether a value may be sent as it is: one byte a character and none of them a control character. */
export function isAdmissibleValue(value: string): boolean {
  // Without a branch a character: nearly all are good.
  let good = 1;
  let all = 0;
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    all |= code;
    good &= VALUE_BYTE[code & 0xff] ?? 0;
  }
  return good === 1 && all <= 0xff;
}

export function isLowerCaseToken(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    // NUL, too, is what the table says of it.
    if (code === 0 || code > 0x7e || TOKEN_LOWER[code] !== code) return false;
  }
  return text.length > 0;
}

/** Whether `bytes[start, end)` are this token, in any case. `lower` in lower case. */
export function equalsToken(bytes: Buffer, start: number, end: number, lower: string): boolean {
  if (end - start !== lower.length) return false;
  for (let i = 0; i < lower.length; i++) {
    if (TOKEN_LOWER[bytes[start + i] ?? 0] !== lower.charCodeAt(i)) return false;
  }
  return true;
}

/**
 * The optional white space around what the codec reads itself is spaces alone: llhttp, for one, takes `chunked` with a tab behind it for another coding
 * (found by fuzzing), where RFC 9110, section 5.6.3, allows the tab.
 */
export function skipSpaces(bytes: Buffer, start: number, end: number): number {
  let p = start;
  while (p < end && bytes[p] === SPACE) p++;
  return p;
}

export function trimSpaces(bytes: Buffer, start: number, end: number): number {
  let p = end;
  while (p > start && bytes[p - 1] === SPACE) p--;
  return p;
}
