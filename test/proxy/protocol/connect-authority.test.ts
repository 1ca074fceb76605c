import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatConnectAuthority, parseConnectAuthority } from '../../../proxy/protocol/connect-authority.ts';

test.each([
  ['10.0.0.1:8080', '10.0.0.1', 8080],
  ['[fd00::1]:8080', 'fd00::1', 8080],
  ['[FD00:0:0:0:0:0:0:1]:1', 'fd00::1', 1],
  ['[::]:65535', '::', 65_535],
  ['[::ffff:10.0.0.1]:80', '10.0.0.1', 80],
  ['[::ffff:a00:1]:80', '10.0.0.1', 80],
  ['[2001:db8:0:1:0:0:0:1]:80', '2001:db8:0:1::1', 80],
])('%s is read as %s port %i', (authority, address, port) => {
  expect(parseConnectAuthority(authority)).toEqual({ address, port });
});

describe('anything that is not exactly an IP address and a port', () => {
  test.each([
    '',
    ':80',
    '10.0.0.1',
    '10.0.0.1:',
    '10.0.0.1:0',
    '10.0.0.1:080',
    '10.0.0.1:65536',
    '10.0.0.1:+80',
    '10.0.0.1:80 ',
    ' 10.0.0.1:80',
    '10.0.0.01:80',
    '10.0.1:80',
    '[10.0.0.1]:80',
    'fd00::1:80',
    '[fd00::1]80',
    '[fd00::1]',
    'fd00::1]:80',
    '[fd00::1:80',
    '[fe80::1%eth0]:80',
    '[[fd00::1]]:80',
    'payments.shop:80',
    'user@10.0.0.1:80',
    '10.0.0.1:80:80',
    `[${'0'.repeat(60)}::1]:80`,
  ])('%j is refused', (authority) => {
    expect(parseConnectAuthority(authority)).toBeNull();
  });
});

test('what is formatted is read back as itself', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 1, max: 65_535 }), (address, port) => {
      const once = parseConnectAuthority(formatConnectAuthority(address, port));
      expect(once?.port).toBe(port);
      expect(parseConnectAuthority(formatConnectAuthority(once?.address ?? '', port))).toEqual(once);
    }),
    { numRuns: 300 },
  );
});
