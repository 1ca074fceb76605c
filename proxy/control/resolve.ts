import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SocketAddress } from '../worker/messages.ts';

/** A name that does not resolve must not hold up the start. */
const DEADLINE_MS = 2_000;

/** Where the URL's host listens: all its addresses, none where it cannot be resolved in time. */
export async function resolveControlPlane(url: string): Promise<readonly SocketAddress[]> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const at = (address: string): SocketAddress => ({ address, port: Number(port === '' ? 443 : port) });
  if (isIP(host) !== 0) return [at(host)];
  const found = await Promise.race([
    lookup(host, { all: true }).catch(() => []),
    sleep(DEADLINE_MS, [], { ref: false }),
  ]);
  return found.map(({ address }) => at(address));
}
