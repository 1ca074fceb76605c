import { SocketAddress } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalIp, parsePort, unmapped } from '../../../proxy/protocol/ip-address.ts';

test.each([
  ['10.0.0.1', '10.0.0.1'],
  ['::ffff:10.0.0.1', '10.0.0.1'],
  ['0:0:0:0:0:FFFF:0a00:1', '10.0.0.1'],
  ['::', '::'],
  ['::1', '::1'],
  ['::5:6', '::0.5.0.6'],
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
  ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ['1:2:3:4:5:6:0:0', '1:2:3:4:5:6::'],
  ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
  ['FE80::ABCD', 'fe80::abcd'],
])('%s is written %s', (text, expected) => {
  expect(canonicalIp(text)).toBe(expected);
});

test.each(['', '10.0.0', '10.0.0.256', '010.0.0.1', 'fe80::1%eth0', '[::1]', '::1/128', 'localhost', '::1::'])(
  '%j is no address',
  (text) => {
    expect(canonicalIp(text)).toBeNull();
  },
);

test('every address is written as inet_ntop writes it, IPv4-mapped as IPv4', () => {
  const groups = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(groups, (words) => {
      const text = words.map((word) => word.toString(16)).join(':');
      expect(canonicalIp(text)).toBe(unmapped(new SocketAddress({ address: text, family: 'ipv6' }).address));
    }),
    { numRuns: 500 },
  );
});

test.each([
  ['1', 1],
  ['65535', 65_535],
  ['0', null],
  ['01', null],
  ['65536', null],
  ['', null],
  ['1e3', null],
  ['-1', null],
  [' 1', null],
])('the port %j is %s', (text, port) => {
  expect(parsePort(text)).toBe(port);
});
