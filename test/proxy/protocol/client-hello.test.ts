import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { isMeshAlpn, MAX_CLIENT_HELLO_BYTES, peekTls } from '../../../proxy/protocol/client-hello.ts';
import {
  alpnExtension,
  captureHello,
  extension,
  helloMessage,
  inRecords,
  record,
  sized16,
  sniExtension,
} from './hello-bytes.ts';

const peek = (bytes: Buffer): ReturnType<typeof peekTls> => peekTls(bytes, 0, bytes.length);
const peekHello = (...extensions: Buffer[]): ReturnType<typeof peekTls> => peek(record(helloMessage(extensions)));

/** Shows the reader growing prefixes at the given cuts; the first answer that is final. */
function peekInPieces(bytes: Buffer, cuts: readonly number[]): ReturnType<typeof peekTls> {
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    const result = peekTls(bytes, 0, Math.min(cut, bytes.length));
    if (result.kind !== 'incomplete') return result;
  }
  return peek(bytes);
}

describe('a ClientHello of node:tls', () => {
  const cases = [
    { name: 'bare', options: {}, alpn: [], sni: '' },
    { name: 'with SNI', options: { servername: 'Payments.Shop.svc' }, alpn: [], sni: 'payments.shop.svc' },
    { name: 'with ALPN', options: { ALPNProtocols: ['istio', 'h2'] }, alpn: ['istio', 'h2'], sni: '' },
    {
      name: 'with hybrid key shares, SNI and ALPN',
      options: { servername: 'a.example', ALPNProtocols: ['h2'], ecdhCurve: 'X25519MLKEM768:X25519' },
      alpn: ['h2'],
      sni: 'a.example',
    },
    {
      name: 'of TLS 1.2',
      options: { servername: 'old.example', maxVersion: 'TLSv1.2' as const },
      alpn: [],
      sni: 'old.example',
    },
  ];
  const hellos = new Map<string, Buffer>();
  beforeAll(async () => {
    for (const { name, options } of cases) hellos.set(name, await captureHello(options));
  });

  test.each(cases)('$name is read right, in one piece and at any split', ({ name, alpn, sni }) => {
    const bytes = hellos.get(name) ?? Buffer.alloc(0);
    expect(peek(bytes)).toEqual({ kind: 'tls', alpn, sni });
    for (let cut = 0; cut < bytes.length; cut++) expect(peekTls(bytes, 0, cut).kind).toBe('incomplete');
  });

  test('with hybrid key shares is larger than one segment', () => {
    expect(hellos.get('with hybrid key shares, SNI and ALPN')?.length).toBeGreaterThan(1400);
  });

  test('is read the same over any number of records, wherever it lies in the buffer, with bytes behind it', () => {
    const bytes = hellos.get('with hybrid key shares, SNI and ALPN') ?? Buffer.alloc(0);
    const expected = peek(bytes);
    for (const size of [1, 2, 3, 4, 5, 7, 64, 511, 1500]) {
      const split = Buffer.concat([Buffer.alloc(9, 0x16), inRecords(bytes.subarray(5), size), Buffer.alloc(9, 0xff)]);
      expect(peekTls(split, 9, split.length), `records of ${size}`).toEqual(expected);
    }
  });

  test('mutated anywhere never throws, never depends on bytes outside its range, and is the same at any split', () => {
    const originals = [...hellos.values()].flatMap((bytes) => [bytes, inRecords(bytes.subarray(5), 97)]);
    const mutation = fc.record({ at: fc.nat(2500), value: fc.nat(255) });
    fc.assert(
      fc.property(
        fc.constantFrom(...originals),
        fc.array(mutation, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat(2500), { maxLength: 8 }),
        fc.nat(255),
        (original, mutations, cuts, around) => {
          const bytes = Buffer.from(original);
          for (const { at, value } of mutations) bytes[at % bytes.length] = value;
          const result = peek(bytes);
          expect(peekInPieces(bytes, cuts)).toEqual(result);
          const embedded = Buffer.alloc(bytes.length + 200, around);
          bytes.copy(embedded, 100);
          expect(peekTls(embedded, 100, 100 + bytes.length)).toEqual(result);
        },
      ),
      { numRuns: 400 },
    );
  });
});

describe('the first byte decides between TLS and plaintext', () => {
  test.each([
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n')],
    ['HTTP/2 prior knowledge', Buffer.from('PRI * HTTP/2.0\r\n')],
    ['an SSLv2 hello', Buffer.from([0x80, 0x2e, 1, 3, 1])],
    ['a TLS alert', Buffer.from([0x15, 3, 3, 0, 2, 2, 40])],
    ['a zero byte', Buffer.from([0])],
  ])('%s is plaintext', (_, bytes) => {
    expect(peek(bytes)).toEqual({ kind: 'plaintext' });
  });

  test('nothing is incomplete', () => {
    expect(peek(Buffer.alloc(0))).toEqual({ kind: 'incomplete' });
  });

  test('arbitrary bytes never throw, and a final answer stays', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), fc.array(fc.nat(300)), (array, likeTls, cuts) => {
        const bytes = likeTls ? Buffer.concat([Buffer.from([0x16, 3, 1]), array]) : Buffer.from(array);
        expect(peekInPieces(bytes, cuts)).toEqual(peek(bytes));
      }),
      { numRuns: 500 },
    );
  });
});

describe('what begins as TLS and is not well-formed', () => {
  const hello = helloMessage([]);
  const tooLong = Buffer.from(hello);
  tooLong.writeUInt16BE(0x4000, 2);
  const wrongExtensionsLength = Buffer.from(helloMessage([alpnExtension('h2')]));
  wrongExtensionsLength.writeUInt16BE(3, wrongExtensionsLength.length - 11);

  test.each([
    ['no major version 3', Buffer.from([0x16, 2])],
    ['an empty record', Buffer.from([0x16, 3, 1, 0, 0])],
    ['a record above 16 KiB', Buffer.from([0x16, 3, 1, 0x40, 1])],
    ['a ServerHello', record(Buffer.from([2, 0, 0, 1, 0]))],
    ['a hello above 16 KiB', record(tooLong)],
    ['another content type between the records', Buffer.concat([record(hello.subarray(0, 9)), Buffer.from([0x17])])],
    ['a wrong length of the extensions', record(wrongExtensionsLength)],
    ['a hello that ends inside the random', record(Buffer.concat([Buffer.from([1, 0, 0, 8]), Buffer.alloc(8, 3)]))],
  ])('%s is malformed', (_, bytes) => {
    expect(peek(bytes)).toMatchObject({ kind: 'malformed' });
  });

  test.each([
    ['the same extension twice', [extension(5, Buffer.alloc(1)), extension(5, Buffer.alloc(1))]],
    ['an extension longer than the hello', [Buffer.from([0, 5, 0, 9, 0])]],
    [
      'more extensions than anyone sends',
      Array.from({ length: 129 }, (_, type) => extension(1000 + type, Buffer.alloc(0))),
    ],
    ['an empty ALPN list', [extension(16, sized16(Buffer.alloc(0)))]],
    ['an empty ALPN name', [alpnExtension('h2', '')]],
    ['an ALPN name longer than its list', [extension(16, sized16(Buffer.from([3, 0x68, 0x32])))]],
    ['more ALPN names than anyone sends', [alpnExtension(...Array.from({ length: 65 }, () => 'h2'))]],
    ['an empty server name', [sniExtension('')]],
    ['a server name that is not ASCII', [sniExtension('caf\xe9.example')]],
    ['a server name with a NUL', [sniExtension('a\0b')]],
    ['a server name above 255 bytes', [sniExtension('a'.repeat(256))]],
    ['two server names', [extension(0, sized16(Buffer.from([0, 0, 1, 97, 0, 0, 1, 98])))]],
    ['a server name of an unknown type', [extension(0, sized16(Buffer.from([1, 0, 1, 97])))]],
  ])('%s is malformed', (_, extensions) => {
    expect(peekHello(...extensions)).toMatchObject({ kind: 'malformed' });
  });

  test('a hello that never ends is malformed once 16 KiB have come', () => {
    const endless = inRecords(Buffer.concat([Buffer.from([1, 0, 0x30, 0]), Buffer.alloc(20_000)]), 1);
    expect(peekTls(endless, 0, MAX_CLIENT_HELLO_BYTES - 1)).toEqual({ kind: 'incomplete' });
    expect(peekTls(endless, 0, MAX_CLIENT_HELLO_BYTES)).toMatchObject({ kind: 'malformed' });
    expect(peek(endless)).toMatchObject({ kind: 'malformed' });
  });
});

test('a hello without extensions, as TLS 1.2 allows, offers neither ALPN nor SNI', () => {
  expect(peek(record(helloMessage(null)))).toEqual({ kind: 'tls', alpn: [], sni: '' });
});

test.each([
  [['istio'], true],
  [['h2', 'istio-peer-exchange'], true],
  [['istio-http/1.0'], true],
  [['istio-http/1.1'], true],
  [['istio-h2'], true],
  [['h2', 'http/1.1'], false],
  [['istio-'], false],
  [[], false],
])('ALPN %j is the mesh: %s', (alpn, expected) => {
  expect(isMeshAlpn(alpn)).toBe(expected);
});
