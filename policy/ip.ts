import { isIP } from 'node:net';

/**
 * An address as unsigned 32-bit words, most significant first: one for IPv4, four for IPv6. An IPv4-mapped IPv6 address (RFC 4291,
 * section 2.5.5.2) is IPv4 here, so that one peer has one spelling whichever socket it came through.
 */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly words: readonly number[];
}

/** A block of addresses. Bits of `address` beyond `prefix` are ignored. */
export interface Cidr {
  readonly address: IpAddress;
  /** Leading bits that count: 0 to 32, or to 128. */
  readonly prefix: number;
}

const PREFIX = /^(?:0|[1-9][0-9]{0,2})$/;
/** Bits before the IPv4 address in an IPv4-mapped one. */
const MAPPED_BITS = 96;

/** Reads an address in its textual form, without brackets, zone or blanks; null where it is not exactly that. */
export function parseIp(text: string): IpAddress | null {
  const address = parseAsWritten(text);
  return address !== null && isMapped(address) ? unmapped(address) : address;
}

/** Reads `address` or `address/prefix` (no leading zeros in the prefix, no zone); null where it is neither. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf('/');
  const address = parseAsWritten(slash < 0 ? text : text.slice(0, slash));
  if (address === null) return null;
  const bits = address.words.length * 32;
  const suffix = slash < 0 ? String(bits) : text.slice(slash + 1);
  if (!PREFIX.test(suffix)) return null;
  const prefix = Number(suffix);
  if (prefix > bits) return null;
  // A block wider than the mapped range is a block of IPv6: it holds no IPv4 peer, as in Envoy.
  if (isMapped(address) && prefix >= MAPPED_BITS) return { address: unmapped(address), prefix: prefix - MAPPED_BITS };
  return { address, prefix };
}

export function cidrContains(cidr: Cidr, address: IpAddress): boolean {
  return cidr.address.family === address.family && prefixEquals(cidr.address.words, address.words, cidr.prefix);
}

/** Whether the first `bits` bits of two addresses of one family are the same. */
export function prefixEquals(a: readonly number[], b: readonly number[], bits: number): boolean {
  return commonBits(a, b, bits) === bits;
}

/** How many leading bits two addresses of one family share, `limit` at most. */
export function commonBits(a: readonly number[], b: readonly number[], limit: number): number {
  for (let index = 0; index * 32 < limit; index++) {
    const difference = (a[index] ?? 0) ^ (b[index] ?? 0);
    if (difference !== 0) return Math.min(limit, index * 32 + Math.clz32(difference));
  }
  return limit;
}

function parseAsWritten(text: string): IpAddress | null {
  const family = isIP(text);
  if (family === 4) return { family: 4, words: [ipv4Word(text)] };
  // A zone names an interface of one machine (RFC 4007): it has no meaning in a rule.
  if (family !== 6 || text.includes('%')) return null;
  return { family: 6, words: ipv6Words(text) };
}

function ipv4Word(text: string): number {
  let word = 0;
  for (const part of text.split('.')) word = word * 256 + Number(part);
  return word;
}

function ipv6Words(text: string): number[] {
  const gap = text.indexOf('::');
  const left = ipv6Groups(gap < 0 ? text : text.slice(0, gap));
  const right = gap < 0 ? [] : ipv6Groups(text.slice(gap + 2));
  const groups = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  const words: number[] = [];
  for (let index = 0; index < 8; index += 2) {
    words.push((groups[index] ?? 0) * 0x10000 + (groups[index + 1] ?? 0));
  }
  return words;
}

function ipv6Groups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const word = ipv4Word(group);
    return [word >>> 16, word & 0xffff];
  });
}

function isMapped(address: IpAddress): boolean {
  const [first, second, third] = address.words;
  return address.family === 6 && first === 0 && second === 0 && third === 0xffff;
}

function unmapped(address: IpAddress): IpAddress {
  return { family: 4, words: address.words.slice(3) };
}
