import { BlockList, isIP } from 'node:net';
import { addressSet, canonicalAddress, setContains } from '../addresses.ts';

/**
 * Where keys may be fetched from. Whoever writes a manifest chooses the URI, and the control plane stands where he may not: without this he
 * could make it ask what only it can reach (server-side request forgery).
 */
export class AddressGuard {
  readonly #allowed: BlockList;

  /** @param allowed CIDR blocks that are open although refused by default; the settings' reader has checked them. */
  constructor(allowed: readonly string[]) {
    this.#allowed = addressSet(allowed) ?? new BlockList();
  }

  /** Why an IP address is not connected to; null where it may be. */
  refusal(address: string): string | null {
    // An IPv4 address in IPv6's clothes is the IPv4 address; a zone names a link.
    const canonical = canonicalAddress(address);
    if (canonical === null) return 'is not an IP address';
    for (const { what, set } of NEVER) if (setContains(set, canonical)) return `is ${what}`;
    if (setContains(this.#allowed, canonical)) return null;
    for (const { what, set } of BY_SETTING) {
      if (setContains(set, canonical)) return `is ${what}: where that is meant, add it to jwks.allowedAddresses`;
    }
    return null;
  }
}

interface Refused {
  readonly what: string;
  readonly set: BlockList;
}

/** Nobody serves keys there; the first are what attackers ask for: the credentials of the machine itself. */
const NEVER: readonly Refused[] = [
  refused("a cloud's metadata service", [
    '169.254.169.254',
    '169.254.170.2',
    '169.254.170.23',
    'fd00:ec2::/32',
    'fd20:ce::254',
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.192',
  ]),
  refused('unspecified', ['0.0.0.0/8', '::/128']),
  refused('multicast', ['224.0.0.0/4', 'ff00::/8']),
  refused('broadcast or reserved', ['240.0.0.0/4']),
];

/** Private ranges (RFC 1918, RFC 4193, RFC 6598) are open: that is where the identity provider of a mesh often is. */
const BY_SETTING: readonly Refused[] = [
  refused('a loopback address', ['127.0.0.0/8', '::1']),
  refused('link-local', ['169.254.0.0/16', 'fe80::/10', 'fec0::/10']),
  // What a translator on the way makes of these (RFC 6052, RFC 3056, RFC 4380, RFC 2765, RFC 4291 2.5.5.1) is an IPv4 address that was not looked at.
  refused('an IPv4 address in disguise', [
    '64:ff9b::/96',
    '64:ff9b:1::/48',
    '2002::/16',
    '2001::/32',
    '::ffff:0:0:0/96',
    '::/96',
  ]),
];

function refused(what: string, blocks: readonly string[]): Refused {
  const set = addressSet(blocks);
  if (set === null) throw new TypeError(`not addresses: ${blocks.join(', ')}`);
  return { what, set };
}

/** The host of a URL as an IP address; null where it is a name. */
export function literalAddress(hostname: string): string | null {
  const bare = hostname.startsWith('[') && hostname.endsWith(']') ? hostname.slice(1, -1) : hostname;
  return isIP(bare) === 0 ? null : bare;
}
