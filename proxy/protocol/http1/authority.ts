import { canonicalIp } from '../ip-address.ts';
import { COLON, isDigit, TOKEN_LOWER } from './grammar.ts';

const [BRACKET, END_BRACKET] = [0x5b, 0x5d];
/** Longest IPv6 text with an embedded IPv4 address. */
const MAX_IPV6 = 45;
const MAX_PORT_DIGITS = 5;

/** Bytes of a registered name that no URI parser reads in two ways: unreserved ones (RFC 3986, section 2.3). */
const NAME_BYTE = new Uint8Array(256);
for (const character of 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~') {
  NAME_BYTE[character.charCodeAt(0)] = 1;
}

/**
 * Whether `bytes[start, end)` are `host [ ":" port ]` (RFC 9110, section 7.2): a name, an IPv4 address, or an IPv6 address in brackets. Stricter than the
 * grammar where parsers differ: no user information, percent-encoding, sub-delimiters, zone or empty port; a port is 1 to 65535 without leading zeros.
 */
export function isAuthority(bytes: Buffer, start: number, end: number, needsPort: boolean): boolean {
  let p = start;
  if (bytes[p] === BRACKET && p < end) {
    const close = bytes.indexOf(END_BRACKET, p);
    if (close < 0 || close >= end || close - p - 1 > MAX_IPV6) return false;
    const address = bytes.latin1Slice(p + 1, close);
    if (!address.includes(':') || canonicalIp(address) === null) return false;
    p = close + 1;
  } else {
    while (p < end && NAME_BYTE[bytes[p] ?? 0] === 1) p++;
    if (p === start) return false;
  }
  if (p === end) return !needsPort;
  return bytes[p] === COLON && isPort(bytes, p + 1, end);
}

function isPort(bytes: Buffer, start: number, end: number): boolean {
  if (start >= end || end - start > MAX_PORT_DIGITS || bytes[start] === 0x30) return false;
  let port = 0;
  for (let p = start; p < end; p++) {
    const byte = bytes[p] ?? 0;
    if (!isDigit(byte)) return false;
    port = port * 10 + byte - 0x30;
  }
  return port <= 65_535;
}

/** Whether two authorities are the same but for case. */
export function sameAuthority(
  bytes: Buffer,
  start: number,
  end: number,
  otherStart: number,
  otherEnd: number,
): boolean {
  if (end - start !== otherEnd - otherStart) return false;
  for (let i = 0; i < end - start; i++) {
    const [a, b] = [bytes[start + i] ?? 0, bytes[otherStart + i] ?? 0];
    // Brackets and colons are no token bytes: they must be equal as they are.
    if (a !== b && (TOKEN_LOWER[a] === 0 || TOKEN_LOWER[a] !== TOKEN_LOWER[b])) return false;
  }
  return true;
}
