import { isIPv4, isIPv6, SocketAddress } from 'node:net';

/** A block of addresses in canonical form: no bits set behind the prefix. */
export interface Cidr {
  readonly family: 4 | 6;
  /** Canonical text of the first address. */
  readonly address: string;
  readonly prefix: number;
}

const WIDTH = { 4: 32, 6: 128 } as const;
const PREFIX = /^(0|[1-9][0-9]{0,2})$/;

function ipv4ToInteger(text: string): bigint {
  return text.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
}

function ipv6ToInteger(text: string): bigint {
  // RFC 4291 section 2.2 form 3: the last 32 bits may stand in dotted decimal.
  const dotted = /^(.*:)([0-9.]+\.[0-9.]+)$/.exec(text);
  const [, head = '', quad = ''] = dotted ?? [];
  const low = dotted === null ? 0n : ipv4ToInteger(quad);
  const hex = dotted === null ? text : `${head}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
  const [left = '', right] = hex.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const front = groups(left);
  const back = right === undefined ? [] : groups(right);
  const zeros = Array.from({ length: 8 - front.length - back.length }, () => '0');
  return [...front, ...zeros, ...back].reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

/** The address as an integer; null where the text is not an address of that family (a zone index is not accepted). */
export function addressToInteger(text: string, family: 4 | 6): bigint | null {
  if (family === 4) return isIPv4(text) ? ipv4ToInteger(text) : null;
  return isIPv6(text) && !text.includes('%') ? ipv6ToInteger(text) : null;
}

function integerToAddress(value: bigint, family: 4 | 6): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.');
  const groups = Array.from({ length: 8 }, (_, index) => ((value >> BigInt(112 - 16 * index)) & 0xffffn).toString(16));
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}

const hostBits = (cidr: Pick<Cidr, 'family' | 'prefix'>): bigint => BigInt(WIDTH[cidr.family] - cidr.prefix);

/**
 * Reads `10.0.0.0/8`, `fd00::/8` or a single address. A text that is not exactly that is a reason (string), not a repaired block: in
 * `10.1.2.3/8` it is the author who knows whether the address or the prefix is the mistake.
 */
export function parseCidr(text: string): Cidr | string {
  const [address = '', prefixText, ...rest] = text.split('/');
  const family = isIPv4(address) ? 4 : 6;
  const value = addressToInteger(address, family);
  if (value === null || rest.length > 0) return `${JSON.stringify(text)} is not an IP address or CIDR block`;
  if (prefixText !== undefined && (!PREFIX.test(prefixText) || Number(prefixText) > WIDTH[family])) {
    return `the prefix length of ${JSON.stringify(text)} is not a number from 0 to ${WIDTH[family]}`;
  }
  const prefix = prefixText === undefined ? WIDTH[family] : Number(prefixText);
  const block = blockOf(address, prefix);
  if (block === null || addressToInteger(block.address, family) !== value) {
    return `${JSON.stringify(text)} has bits set behind its prefix; the block is ${block?.address}/${prefix}`;
  }
  return block;
}

/** The block of that prefix length in which the address (text) lies; null where it is not an address. */
export function blockOf(address: string, prefix: number): Cidr | null {
  const family = isIPv4(address) ? 4 : 6;
  const value = addressToInteger(address, family);
  if (value === null) return null;
  const bits = hostBits({ family, prefix });
  return { family, address: integerToAddress((value >> bits) << bits, family), prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${cidr.address}/${cidr.prefix}`;
}

/** Whether the address (text, either family) lies in the block. */
export function cidrContains(cidr: Cidr, address: string): boolean {
  const value = addressToInteger(address, cidr.family);
  const network = addressToInteger(cidr.address, cidr.family);
  if (value === null || network === null) return false;
  return value >> hostBits(cidr) === network >> hostBits(cidr);
}

/** The `offset`th address of the block, or its last where it is smaller. */
export function addressWithin(cidr: Cidr, offset: number): string {
  const size = 1n << hostBits(cidr);
  const step = BigInt(offset) < size ? BigInt(offset) : size - 1n;
  return integerToAddress((addressToInteger(cidr.address, cidr.family) ?? 0n) + step, cidr.family);
}

/**
 * The same addresses with no block inside another, wide before narrow, in order: kernel interval sets refuse overlaps, and equal
 * options must give equal rules.
 */
export function disjointCidrs(cidrs: readonly Cidr[]): Cidr[] {
  const key = (cidr: Cidr): bigint => addressToInteger(cidr.address, cidr.family) ?? 0n;
  const ordered = [...cidrs].sort((a, b) => {
    if (a.family !== b.family) return a.family - b.family;
    if (key(a) !== key(b)) return key(a) < key(b) ? -1 : 1;
    return a.prefix - b.prefix;
  });
  const kept: Cidr[] = [];
  for (const cidr of ordered) {
    const previous = kept.at(-1);
    // Blocks nest or are disjoint, and a container sorts before what it contains: the last kept one is the only candidate.
    if (previous?.family === cidr.family && cidrContains(previous, cidr.address)) continue;
    kept.push(cidr);
  }
  return kept;
}
