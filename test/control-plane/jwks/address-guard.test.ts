import { describe, expect, it, test } from 'vitest';
import { AddressGuard, literalAddress } from '../../../control-plane/jwks/address-guard.ts';

const BY_DEFAULT = new AddressGuard([]);
const OPEN = new AddressGuard(['0.0.0.0/0', '::/0']);

describe('an address that keys are fetched from', () => {
  it.each([
    '8.8.8.8',
    '10.0.0.5',
    '172.16.3.4',
    '192.168.1.1',
    '100.64.0.1',
    '2606:4700::1111',
    'fd12::7',
    '::ffff:8.8.8.8',
  ])('%s is open', (address) => {
    expect(BY_DEFAULT.refusal(address)).toBeNull();
  });

  it.each([
    '127.0.0.1',
    '127.8.9.10',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '169.254.1.1',
    '::ffff:169.254.1.1',
    'fe80::1',
    'febf::1',
    'fec0::1',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b::169.254.169.254',
    '2002:7f00:1::',
    '2001:0:1::1',
    '::ffff:0:127.0.0.1',
  ])('%s needs the operator’s word', (address) => {
    expect(BY_DEFAULT.refusal(address)).toMatch(/jwks\.allowedAddresses/);
    expect(OPEN.refusal(address)).toBeNull();
  });

  it.each([
    '169.254.169.254',
    '169.254.170.2',
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    'fd00:ec2::254',
    'fd20:ce::254',
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.192',
    '0.0.0.0',
    '0.1.2.3',
    '::',
    '::ffff:0.0.0.0',
    '224.0.0.1',
    '239.255.255.250',
    'ff02::1',
    '255.255.255.255',
    '240.0.0.1',
    'fe80::1%eth0',
    'localhost',
    '',
  ])('%s is never one', (address) => {
    expect(BY_DEFAULT.refusal(address)).toBeTypeOf('string');
    expect(OPEN.refusal(address)).toBeTypeOf('string');
  });

  test('is opened by the blocks that are named, not by others', () => {
    const guard = new AddressGuard(['127.0.0.2', 'fe80::/64']);
    expect(['127.0.0.2', 'fe80::9'].map((one) => guard.refusal(one))).toEqual([null, null]);
    expect(['127.0.0.1', 'fe80:1::9'].every((one) => guard.refusal(one) !== null)).toBe(true);
  });
});

it.each([
  ['127.0.0.1', '127.0.0.1'],
  ['0x7f.1', '127.0.0.1'],
  ['2130706433', '127.0.0.1'],
  ['0177.0.0.01', '127.0.0.1'],
  ['①②⑦.0.0.1', '127.0.0.1'],
  ['[::1]', '::1'],
  ['[0:0::ffff:127.0.0.1]', '::ffff:7f00:1'],
  ['idp.example', null],
  ['localhost', null],
])('the host %s of a URL is the address %s', (host, address) => {
  expect(literalAddress(new URL(`http://${host}/`).hostname)).toBe(address);
});
