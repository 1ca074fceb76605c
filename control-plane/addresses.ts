import { BlockList, isIP, SocketAddress } from 'node:net';

/** Where something listens. IPv6 text is without brackets. */
export interface ListenAddress {
  readonly address: string;
  readonly port: number;
}

/**
 * The one text of an IP address: lower case, zeros of IPv6 compressed (RFC 5952), IPv4-mapped IPv6 (`::ffff:10.0.0.1`) as IPv4, no zone.
 * Null where the text is not an IP address.
 */
export function canonicalAddress(text: string): string | null {
  const version = isIP(text);
  if (version === 4) return text;
  if (version !== 6 || text.includes('%')) return null;
  const address = new SocketAddress({ address: text, family: 'ipv6' }).address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  return mapped?.[1] ?? address;
}

export function isLoopback(address: string): boolean {
  return address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));
}

/** Reads `host:port` or `[v6]:port` with an IP address as the host; null where it is not one. */
export function parseListenAddress(text: string): ListenAddress | null {
  const parts = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (parts === null) return null;
  const address = canonicalAddress(parts[1] ?? parts[2] ?? '');
  const port = Number(parts[3]);
  return address === null || port > 65535 ? null : { address, port };
}

export function formatListenAddress({ address, port }: ListenAddress): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A set of CIDR blocks and single addresses; null where one of the texts is neither. */
export function addressSet(blocks: readonly string[]): BlockList | null {
  const list = new BlockList();
  for (const block of blocks) {
    const [text = '', prefix, ...rest] = block.split('/');
    const version = isIP(text);
    const bits = version === 4 ? 32 : 128;
    if (version === 0 || rest.length > 0 || (prefix !== undefined && !/^\d{1,3}$/.test(prefix))) return null;
    const length = prefix === undefined ? bits : Number(prefix);
    if (length > bits) return null;
    list.addSubnet(text, length, version === 4 ? 'ipv4' : 'ipv6');
  }
  return list;
}

export function setContains(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}
