import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import {
  accept,
  closeDescriptor,
  connect,
  localAddress,
  openListener,
  originalDestination,
  peerOfLastAccept,
} from '../../../proxy/native/socket.ts';
import { canonicalIp } from '../../../proxy/protocol/ip-address.ts';

const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) closeDescriptor(fd);
});
function keep(fd: number): number {
  if (fd >= 0) open.push(fd);
  return fd;
}
const ipv6 = ((): boolean => {
  const fd = openListener({ address: '::1', port: 0 }, 1);
  if (fd < 0) return false;
  closeDescriptor(fd);
  return true;
})();

describe('an address', () => {
  test('of IPv4 comes back from the kernel as it was given', () => {
    fc.assert(
      fc.property(fc.tuple(fc.nat(255), fc.nat(255), fc.nat(254)), ([b, c, d]) => {
        const address = `127.${b}.${c}.${d + 1}`;
        const fd = openListener({ address, port: 0 }, 1);
        expect(fd).toBeGreaterThanOrEqual(0);
        expect(localAddress(fd).address).toBe(address);
        closeDescriptor(fd);
      }),
      { numRuns: 50 },
    );
  });

  test.runIf(ipv6)('of IPv6 comes back from the kernel in the text of inet_ntop(3)', () => {
    // Connecting to an address that nobody routes still tells how it was understood: "::1" alone can be bound here.
    for (const address of ['::1', '0:0:0:0:0:0:0:1', '0::0001']) {
      const fd = keep(openListener({ address, port: 0 }, 1));
      expect(fd).toBeGreaterThanOrEqual(0);
      expect(localAddress(fd).address).toBe(canonicalIp(address));
    }
  });

  test.runIf(ipv6)('mapped into IPv6 is told as IPv4 on both ends of a connection', () => {
    const listener = keep(openListener({ address: '::', port: 0 }, 4));
    const { port } = localAddress(listener);
    const client = keep(connect({ address: '127.0.0.1', port }, 0));
    expect(client).toBeGreaterThanOrEqual(0);
    let server = -1;
    for (let i = 0; i < 1_000_000 && server < 0; i++) server = keep(accept(listener));
    expect(peerOfLastAccept()).toEqual(localAddress(client));
    expect(localAddress(server)).toEqual({ address: '127.0.0.1', port });
    const mapped = keep(connect({ address: '::ffff:127.0.0.1', port }, 0));
    expect(localAddress(mapped).address).toBe('127.0.0.1');
  });

  test('that is not of this machine is refused with its errno', () => {
    expect(openListener({ address: '203.0.113.1', port: 0 }, 1)).toBe(-99);
  });
});

test('a mark may use all 32 bits', () => {
  const listener = keep(openListener({ address: '127.0.0.1', port: 0 }, 4));
  const fd = keep(connect(localAddress(listener), 0xffff_fffe));
  // Without CAP_NET_ADMIN the kernel says EPERM.
  expect(fd === -1 || fd >= 0).toBe(true);
});

test('a connection that was not redirected has no original destination, or that of its listener', () => {
  const listener = keep(openListener({ address: '127.0.0.1', port: 0 }, 4));
  keep(connect(localAddress(listener), 0));
  let fd = -1;
  for (let i = 0; i < 1_000_000 && fd < 0; i++) fd = keep(accept(listener));
  expect([null, localAddress(listener)]).toContainEqual(originalDestination(fd, false));
});
