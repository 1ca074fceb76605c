import { describe, expect, test } from 'vitest';
import { EXIT } from '../../mesh/errors.ts';
import {
  type InterceptOptions,
  parseInterceptOptions,
  type RawInterceptOptions,
} from '../../mesh/intercept/options.ts';

const fails = (raw: RawInterceptOptions, message: string | RegExp): void => {
  expect(() => parseInterceptOptions(raw)).toThrow(
    expect.objectContaining({
      code: 'ERR_INTERCEPT_OPTION',
      exitCode: EXIT.usage,
      message: expect.stringMatching(message),
    }),
  );
};

test('the defaults are those of a mesh that follows Istio', () => {
  const everything = { includePorts: null, excludePorts: [], includeCidrs: null, excludeCidrs: [] };
  expect(parseInterceptOptions({})).toEqual({
    outboundPort: 15001,
    inboundPort: 15006,
    uid: 1337,
    gid: 1337,
    mark: null,
    inbound: everything,
    outbound: everything,
    excludeInterfaces: [],
  } satisfies InterceptOptions);
});

describe('ports', () => {
  test.each([
    ['80', [{ from: 80, to: 80 }]],
    [
      '443, 80',
      [
        { from: 80, to: 80 },
        { from: 443, to: 443 },
      ],
    ],
    [
      '1-10,5-20,21,30',
      [
        { from: 1, to: 21 },
        { from: 30, to: 30 },
      ],
    ],
    ['1-100,5-20', [{ from: 1, to: 100 }]],
    ['1-65535', [{ from: 1, to: 65535 }]],
  ])('%s is read, sorted and merged', (text, ranges) => {
    expect(parseInterceptOptions({ excludeInboundPorts: text }).inbound.excludePorts).toEqual(ranges);
  });

  test.each([
    '0',
    '65536',
    '080',
    '-1',
    '+80',
    '8e1',
    '80.0',
    '0x50',
    '9000-',
    '-9000',
    '20-10',
    '1-2-3',
    'http',
    '80;rm',
    '',
    '80,',
    ',',
    '*',
  ])('%j is refused by its option and value', (text) =>
    fails({ excludeOutboundPorts: text }, /^--exclude-outbound-ports: /),
  );

  test('a star includes all', () => {
    expect(parseInterceptOptions({ includeInboundPorts: '*' }).inbound.includePorts).toBeNull();
  });

  test('a list without end is refused', () => {
    fails({ excludeInboundPorts: Array.from({ length: 1025 }, (_, index) => index + 1).join(',') }, '1025 entries');
  });
});

describe('CIDRs', () => {
  const read = (text: string) =>
    parseInterceptOptions({ excludeOutboundCidrs: text }).outbound.excludeCidrs.map(
      ({ address, prefix }) => `${address}/${prefix}`,
    );

  test.each([
    ['10.0.0.0/8', ['10.0.0.0/8']],
    ['192.0.2.7', ['192.0.2.7/32']],
    ['0.0.0.0/0,::/0', ['0.0.0.0/0', '::/0']],
    ['FD00:0:0::/8', ['fd00::/8']],
    ['2001:db8:0:0:0:0:0:1', ['2001:db8::1/128']],
    ['::ffff:10.0.0.0/104', ['::ffff:10.0.0.0/104']],
    ['10.1.0.0/16,10.0.0.0/8,10.0.0.0/8,9.0.0.0/8', ['9.0.0.0/8', '10.0.0.0/8']],
    ['fd00::/8,10.0.0.0/9,fd00:1::/32,10.128.0.0/9', ['10.0.0.0/9', '10.128.0.0/9', 'fd00::/8']],
  ])('%s is read, sorted, and freed of overlaps', (text, blocks) => {
    expect(read(text)).toEqual(blocks);
  });

  test.each([
    ['10.0.0.1/8', /the block is 10\.0\.0\.0\/8/],
    ['fd00::1/64', /the block is fd00::\/64/],
    ['10.0.0.0/33', /from 0 to 32/],
    ['::/129', /from 0 to 128/],
    ['10.0.0.0/08', /prefix length/],
    ['10.0.0.0/', /prefix length/],
    ['10.0.0.0/8/8', /not an IP address/],
    ['10.0.0', /not an IP address/],
    ['010.0.0.0/8', /not an IP address/],
    ['fe80::1%eth0', /not an IP address/],
    ['example.org', /not an IP address/],
    ['*', /not an IP address/],
  ])('%s is refused with the reason', (text, reason) => fails({ excludeInboundCidrs: text }, reason));
});

describe('the exemption of the sidecar', () => {
  test('by UID, GID and mark, each of which may be none', () => {
    expect(parseInterceptOptions({ uid: '0', gid: 'none', mark: '0x539' })).toMatchObject({
      uid: 0,
      gid: null,
      mark: 1337,
    });
  });

  test('nothing that exempts it is refused: it would intercept itself', () => {
    fails({ uid: 'none', gid: 'none' }, 'intercept itself');
  });

  test.each([
    [{ uid: '-1' }, '--uid'],
    [{ uid: '4294967295' }, '--uid'],
    [{ gid: 'postern' }, '--gid'],
    [{ mark: '0' }, '--mark'],
    [{ mark: '0x1ffffffff' }, '--mark'],
  ])('%j is refused', (raw, flag) => fails(raw, `^${flag}: `));
});

test('one port for both directions is refused', () => {
  fails({ outboundPort: '15006' }, 'two listeners');
});

test.each(['eth 0', 'eth0;', 'a-name-of-16-long', '-o', '..', 'e+', '"lo"', 'eth/0'])('%j is no interface', (name) => {
  fails({ excludeInterfaces: name }, /^--exclude-interfaces: .* is not the name of a network interface/);
});
