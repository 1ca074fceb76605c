import { type IpAddress, parseIp } from '../../policy/ip.ts';

const MAPPED = '::ffff:';

/** An IPv4-mapped address (RFC 4291, section 2.5.5.2), as a dual-stack socket shows an IPv4 peer, as plain IPv4; any other as it is. */
export function unmapped(address: string): string {
  return address.startsWith(MAPPED) && address.includes('.') ? address.slice(MAPPED.length) : address;
}

/** The one text that inet_ntop(3) prints for this address, IPv4-mapped as IPv4; null where it is no IP address. No zones, no brackets. */
export function canonicalIp(text: string): string | null {
  const address = parseIp(text);
  return address === null ? null : format(address);
}

const PORT = /^[1-9][0-9]{0,4}$/;

/** A decimal port of 1 to 65535 without leading zeros; null where it is anything else. */
export function parsePort(text: string): number | null {
  if (!PORT.test(text)) return null;
  const port = Number(text);
  return port <= 65_535 ? port : null;
}

function format({ family, words }: IpAddress): string {
  if (family === 4) return formatIpv4(words[0] ?? 0);
  const groups = words.flatMap((word) => [word >>> 16, word & 0xffff]);
  const { start, length } = longestZeros(groups);
  const hex = (from: number, to?: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':');
  // glibc still prints the deprecated IPv4-compatible addresses (RFC 4291, section 2.5.5.1) with dots.
  if (start === 0 && length === 6) return `::${formatIpv4(words[3] ?? 0)}`;
  return length === 0 ? hex(0) : `${hex(0, start)}::${hex(start + length)}`;
}

function formatIpv4(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

/** The first of the longest runs of two or more zero groups (RFC 5952, section 4.2); length 0 where there is none. */
function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > 1 && length > best.length) best = { start, length };
  }
  return best;
}
