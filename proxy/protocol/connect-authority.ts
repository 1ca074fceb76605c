import { canonicalIp, parsePort } from './ip-address.ts';

/** Where a CONNECT stream wants to go. */
export interface ConnectTarget {
  /** Canonical text as inet_ntop(3) prints it, without brackets. */
  readonly address: string;
  readonly port: number;
}

/** `[` + the longest IPv6 text + `]:65535`. */
const MAX_LENGTH = 53;

/**
 * Reads the `:authority` of a tunnel's CONNECT (RFC 9113, section 8.5): `10.0.0.1:8080` or `[fd00::1]:8080`. IP literals only, as a tunnel
 * names the original destination and never asks for resolution. Null where it is anything else; never repairs.
 */
export function parseConnectAuthority(authority: string): ConnectTarget | null {
  if (authority.length > MAX_LENGTH) return null;
  const colon = authority.lastIndexOf(':');
  const port = parsePort(authority.slice(colon + 1));
  if (colon < 1 || port === null) return null;
  const host = authority.slice(0, colon);
  const bracketed = host.startsWith('[');
  if (bracketed !== host.endsWith(']') || bracketed !== host.includes(':')) return null;
  const address = canonicalIp(bracketed ? host.slice(1, -1) : host);
  return address === null ? null : { address, port };
}

/** @param address an IP address without brackets, valid by construction. */
export function formatConnectAuthority(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
