import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CidrIndex } from '../../policy/cidr-index.ts';
import { cidrContains, type IpAddress, parseCidr, parseIp } from '../../policy/ip.ts';

describe('parseIp', () => {
  test.each([
    ['10.1.2.3', [0x0a010203]],
    ['255.255.255.255', [0xffffffff]],
    ['::', [0, 0, 0, 0]],
    ['::1', [0, 0, 0, 1]],
    ['2001:db8::ff', [0x20010db8, 0, 0, 0xff]],
    ['1:2:3:4:5:6:7:8', [0x10002, 0x30004, 0x50006, 0x70008]],
    ['1:2:3:4:5:6:7::', [0x10002, 0x30004, 0x50006, 0x70000]],
    ['64:ff9b::10.1.2.3', [0x0064ff9b, 0, 0, 0x0a010203]],
  ])('reads %s', (text, words) => {
    expect(parseIp(text)?.words).toEqual(words);
  });

  test.each(['::ffff:10.1.2.3', '::ffff:a01:203', '0:0:0:0:0:FFFF:10.1.2.3'])(
    'reads the IPv4-mapped %s as IPv4',
    (text) => {
      expect(parseIp(text)).toEqual({ family: 4, words: [0x0a010203] });
    },
  );

  test.each([
    '',
    '10.1.2',
    '10.1.2.3.4',
    '010.1.2.3',
    '10.1.2.256',
    ' 10.1.2.3',
    '10.1.2.3\n',
    '0x0a010203',
    '[::1]',
    '::1%eth0',
    ':::',
    '1::2::3',
    '12345::',
    'localhost',
    '10.1.2.3/32',
  ])('refuses %j', (text) => {
    expect(parseIp(text)).toBeNull();
  });
});

describe('parseCidr', () => {
  test.each([
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/+8',
    '10.0.0.0/8/8',
    '::/129',
    '::%1/64',
    '/8',
    'a/8',
    '10.0.0.0/-1',
    '10.0.0.0/8 ',
  ])('refuses %j', (text) => {
    expect(parseCidr(text)).toBeNull();
  });

  test.each([
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['10.1.2.3/8', '10.9.9.9', true],
    ['10.1.2.3', '10.1.2.3', true],
    ['10.1.2.3', '10.1.2.2', false],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['::/0', '2001:db8::1', true],
    ['::/0', '10.0.0.1', false],
    ['10.0.0.0/8', '::ffff:10.2.3.4', true],
    ['::ffff:10.0.0.0/104', '10.2.3.4', true],
    ['::ffff:0:0/96', '10.2.3.4', true],
    ['::ffff:0:0/95', '10.2.3.4', false],
    ['2001:db8::/33', '2001:db8:7fff::', true],
    ['2001:db8::/33', '2001:db8:8000::', false],
    ['128.0.0.0/1', '255.0.0.1', true],
    ['128.0.0.0/1', '127.255.255.255', false],
  ])('%s holds %s: %s', (block, address, expected) => {
    expect(contains(block, address)).toBe(expected);
    expect(indexOf([block]).has(ip(address))).toBe(expected);
  });
});

test('an index finds exactly the blocks that hold an address, however they overlap', () => {
  const word = fc.constantFrom(0, 1, 2, 0x80000000, 0xffffffff, 0x0a000000, 0x0a010000);
  const address: fc.Arbitrary<IpAddress> = fc.oneof(
    fc.tuple(word).map((words) => ({ family: 4 as const, words })),
    fc.tuple(word, word, word, word).map((words) => ({ family: 6 as const, words })),
  );
  const cidr = fc
    .tuple(address, fc.nat(128))
    .map(([one, bits]) => ({ address: one, prefix: bits % (one.words.length * 32 + 1) }));
  fc.assert(
    fc.property(
      fc.array(cidr, { maxLength: 30 }),
      fc.array(address, { minLength: 1, maxLength: 10 }),
      (blocks, addresses) => {
        const index = new CidrIndex<number>();
        for (const [number, block] of blocks.entries()) index.add(block, number);
        for (const one of addresses) {
          const lists: (readonly number[])[] = [];
          index.collect(one, lists);
          const expected = [...blocks.keys()].filter((number) => {
            const block = blocks[number];
            return block !== undefined && cidrContains(block, one);
          });
          expect(lists.flat().sort((a, b) => a - b)).toEqual(expected);
          expect(index.has(one)).toBe(expected.length > 0);
        }
      },
    ),
    { seed: 1, numRuns: 300 },
  );
});

function ip(text: string): IpAddress {
  const address = parseIp(text);
  if (address === null) throw new Error(`test data: ${text}`);
  return address;
}

function contains(block: string, address: string): boolean {
  const cidr = parseCidr(block);
  if (cidr === null) throw new Error(`test data: ${block}`);
  return cidrContains(cidr, ip(address));
}

function indexOf(blocks: readonly string[]): CidrIndex<string> {
  const index = new CidrIndex<string>();
  for (const block of blocks) {
    const cidr = parseCidr(block);
    if (cidr !== null) index.add(cidr, block);
  }
  return index;
}
