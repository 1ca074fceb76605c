import fc from 'fast-check';

/**
 * Messages on the edge: mostly well-formed, each part now and then one of the spellings by which hops have been told apart. A body and a second
 * message follow, so that a wrong end of the first shows.
 */
const often = <T>(usual: readonly T[], odd: readonly T[], weight: number): fc.Arbitrary<T> =>
  fc.oneof({ weight, arbitrary: fc.constantFrom(...usual) }, { weight: 1, arbitrary: fc.constantFrom(...odd) });

const END = often(['\r\n'], ['\n', '\r', '\r\r\n', '\n\r\n', ' \r\n', '\t\r\n', '\0\r\n', '\x0b\r\n'], 60);
const WEIRD = [
  '\0',
  '\x01',
  '\t',
  '\x0b',
  '\x0c',
  '\r',
  '\n',
  '\r\n',
  ' ',
  '\x7f',
  '\x80',
  '\xa0',
  '\xff',
  ';',
  ',',
  ':',
  '"',
  '\\',
  '#',
];

const METHOD = often(
  ['GET', 'POST', 'PUT', 'HEAD', 'OPTIONS', 'DELETE'],
  ['get', 'Post', 'G ET', 'PRI', '', ' GET', 'GET\t'],
  25,
);
const TARGET = often(
  ['/', '/a?x=1', '/a/../b', '//c', '/%2e', 'http://a/b', '*'],
  [
    '',
    'a',
    '/a b',
    '/\t',
    '/#f',
    'http://b/',
    'http://a',
    'http://u@a/',
    'https://a/',
    '/\x80',
    '/\x7f',
    '/\0',
    'a:80',
    '?x',
  ],
  12,
);
const VERSION = often(
  ['HTTP/1.1'],
  [
    'HTTP/1.0',
    'HTTP/1.2',
    'HTTP/0.9',
    'HTTP/2.0',
    'HTTP/1.1 ',
    ' HTTP/1.1',
    'HTTP/1.01',
    'http/1.1',
    'HTTP/11',
    '',
    'ICE/1.0',
  ],
  12,
);
const STATUS = often(
  ['200 OK', '404 Not Found', '500', '204 No Content', '304 X', '100 Continue', '206 '],
  ['99 X', '600 X', '2000 X', '20 X', ' 200 OK', '200\tOK', '', '-20 X', '200 O\0K'],
  12,
);
const LENGTH = often(
  ['0', '5', '3'],
  [
    '05',
    '+5',
    '-5',
    '0x5',
    '5 5',
    '5,5',
    '5, 5',
    '',
    '5;',
    '"5"',
    ' 5',
    '5\t',
    '\x0b5',
    '5\0',
    '99999999999999999999',
    '5.0',
    '1e1',
  ],
  8,
);
const CODING = often(
  ['chunked', 'Chunked'],
  [
    'chunked, chunked',
    'gzip, chunked',
    'chunked, gzip',
    'identity',
    'xchunked',
    'chunked;q=1',
    'chunked,',
    ', chunked',
    '"chunked"',
    '\x0bchunked',
    'chunked\0',
    '',
    'chunked\t',
    'chunked identity',
    'chunked\r\n ',
  ],
  6,
);
const CONNECTION = often(
  ['keep-alive', 'close', 'x-a', 'Keep-Alive, x-b'],
  ['content-length', 'transfer-encoding', 'host', 'close x', ',', '', 'a\0'],
  8,
);
const VALUE = often(
  ['1', 'a b', '', 'x; y="z"', '\xe4'],
  WEIRD.map((one) => `a${one}b`),
  10,
);
const NAME = often(
  ['X-A', 'x-b', 'Accept', 'User-Agent', 'Cookie'],
  [
    '',
    ' X',
    'X ',
    'X\t',
    'X Y',
    'X\0',
    'X\x80',
    'X:Y',
    '(',
    'X_A',
    'Content_Length',
    'Transfer_Encoding',
    '\tX',
    'X\r',
  ],
  12,
);

const COLON = often([': '], [':', ' : ', ':\t', '\t:', ':  ', '', ':\r\n '], 10);

const field = (name: fc.Arbitrary<string>, value: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(name, COLON, value, END).map((parts) => parts.join(''));

const framingName = (usual: string): fc.Arbitrary<string> =>
  often(
    [usual],
    [
      usual.toLowerCase(),
      usual.toUpperCase(),
      `${usual} `,
      ` ${usual}`,
      `${usual}\0`,
      usual.replace('-', '_'),
      `X-${usual}`,
    ],
    8,
  );

const framing = fc.oneof(field(framingName('Content-Length'), LENGTH), field(framingName('Transfer-Encoding'), CODING));
const anyField = fc.oneof(
  { weight: 4, arbitrary: field(NAME, VALUE) },
  { weight: 1, arbitrary: field(fc.constant('Connection'), CONNECTION) },
  { weight: 1, arbitrary: field(fc.constant('Expect'), often(['100-continue'], ['100-Continue', 'x', ''], 4)) },
  { weight: 1, arbitrary: field(fc.constant('TE'), fc.constantFrom('trailers', 'gzip')) },
);
const HOST = often(
  ['Host: a\r\n'],
  [
    '',
    'Host: a\r\nHost: a\r\n',
    'Host: a\r\nHost: b\r\n',
    'Host:\r\n',
    'Host: a b\r\n',
    'host:a\r\n',
    'Host: a:80\r\n',
    'Host: [::1]:80\r\n',
    'Host : a\r\n',
    'Host: a\r\n b\r\n',
    'Host: a@b\r\n',
  ],
  12,
);

const SIZE = often(
  ['3', '03', '3;a=b', '3;a'],
  [
    '3 ',
    ' 3',
    '+3',
    '0x3',
    '3;',
    '3;a=',
    '3 ;a',
    '3;a\n',
    '3g',
    '',
    '3;"',
    '3,3',
    '30000000000000003',
    '3;a="b"',
    '3;a="b\\"',
  ],
  8,
);
const chunk = fc
  .tuple(SIZE, END, fc.constantFrom('abc', 'abc', 'abc', 'ab', 'abcd'), END)
  .map((parts) => parts.join(''));
const lastChunk = fc
  .tuple(
    often(['0', '00', '0;a'], ['-0', '0 ', '0x0', '000000000000000000'], 10),
    END,
    fc.array(field(often(['X-T', 'Digest'], ['Content-Length', 'Transfer-Encoding', 'Host', 'X T'], 6), VALUE), {
      maxLength: 1,
    }),
    END,
  )
  .map(([size, first, trailers, end]) => size + first + trailers.join('') + end);
const chunkedBody = fc
  .tuple(fc.array(chunk, { maxLength: 2 }), lastChunk)
  .map(([chunks, last]) => chunks.join('') + last);
const body = fc.oneof(fc.constantFrom('', '', 'abc', 'hello', '0\r\n\r\n'), chunkedBody);

const SECOND = 'GET /second HTTP/1.1\r\nHost: a\r\n\r\n';

const headed = (first: fc.Arbitrary<string>, host: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .tuple(
      first,
      host,
      fc.array(anyField, { maxLength: 2 }),
      fc.oneof(
        { weight: 3, arbitrary: fc.constant([]) },
        { weight: 8, arbitrary: fc.array(framing, { minLength: 1, maxLength: 1 }) },
        { weight: 2, arbitrary: fc.array(framing, { maxLength: 3 }) },
      ),
      fc.array(anyField, { maxLength: 1 }),
      END,
    )
    .map(
      ([line, one, before, lengths, after, end]) =>
        line + one + before.join('') + lengths.join('') + after.join('') + end,
    );

/** A request, a body that may or may not be its, and another request. */
export const requestBytes: fc.Arbitrary<string> = fc
  .tuple(
    often([''], ['\r\n', '\r\n\r\n', '\n', ' ', '\0'], 20),
    headed(
      fc
        .tuple(METHOD, TARGET, VERSION, END)
        .map(([method, target, version, end]) => `${method} ${target} ${version}${end}`),
      HOST,
    ),
    body,
  )
  .map(([before, head, rest]) => before + head + rest + SECOND);

/** A response and a body that may or may not be its. */
export const responseBytes: fc.Arbitrary<string> = fc
  .tuple(
    headed(
      fc.tuple(VERSION, STATUS, END).map(([version, status, end]) => `${version} ${status}${end}`),
      fc.constant(''),
    ),
    body,
  )
  .map(([head, rest]) => head + rest);

/** The bytes of a text, now and then with one of them changed, doubled or left out. */
export function mutated(text: fc.Arbitrary<string>): fc.Arbitrary<Buffer> {
  const change = fc.record({ at: fc.nat(400), by: fc.constantFrom('', ...WEIRD), drop: fc.nat(1) });
  return fc
    .tuple(
      text,
      fc.oneof(
        { weight: 4, arbitrary: fc.constant([]) },
        { weight: 1, arbitrary: fc.array(change, { minLength: 1, maxLength: 2 }) },
      ),
    )
    .map(([original, changes]) => {
      let bytes = original;
      for (const { at, by, drop } of changes) {
        const position = at % (bytes.length + 1);
        bytes = bytes.slice(0, position) + by + bytes.slice(position + drop);
      }
      return Buffer.from(bytes, 'latin1');
    });
}
