import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PathNormalization } from '../../mesh/resources.ts';
import { normalizePath } from '../../policy/path-normalization.ts';

const MODES: readonly PathNormalization[] = ['NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'];

/** The path in the four modes; null: refused. */
const paths = (target: string): (string | null)[] => MODES.map((mode) => normalizePath(target, mode)?.path ?? null);

/** One that is the same in each mode but NONE. */
const same = (target: string, path: string | null): [string, (string | null)[]] => [
  target,
  [target.split(/[?#]/)[0] ?? '', path, path, path],
];

describe('the path in NONE, BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES', () => {
  test.each<[string, readonly (string | null)[]]>([
    // Plain ones stay.
    same('/', '/'),
    same('/a/b.c', '/a/b.c'),
    same('/pkg.Service/Method', '/pkg.Service/Method'),
    same('/a;v=1/b', '/a;v=1/b'),
    same("/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"),
    same('/[x]', '/[x]'),
    same('/.well-known/x', '/.well-known/x'),
    same('/...', '/...'),
    same('/a..b/.c/d.', '/a..b/.c/d.'),
    same('*', '*'),
    same('', ''),
    // Dot segments.
    same('/a/./b', '/a/b'),
    same('/a/../b', '/b'),
    same('/a/b/..', '/a/'),
    same('/a/.', '/a/'),
    same('/..', '/'),
    same('/.', '/'),
    same('/../../a', '/a'),
    same('/a/b/../../../c', '/c'),
    same('/a/%2e/b', '/a/b'),
    same('/a/%2E%2e/b', '/b'),
    same('/a/.%2e/b', '/b'),
    same('/a/..;x/b', '/b'),
    same('/a/.;x/b', '/a/b'),
    same('/a/..;/b', '/b'),
    same('/a/..;x=1;y/b', '/b'),
    same('/a/%2e%2e;x/b', '/b'),
    same('/a/..;x', '/'),
    same('/a/..%3bx/b', '/a/..%3bx/b'),
    same('/a/...;x/b', '/a/...;x/b'),
    same('/a/;/../b', '/a/b'),
    same('/a/..x/b', '/a/..x/b'),
    // Backslashes.
    same('/a\\b', '/a/b'),
    same('/a\\..\\b', '/b'),
    same('/a/..\\b', '/b'),
    // Escapes of unreserved characters, and of others.
    same('/%61%62%7a%41%5A%30%39', '/abzAZ09'),
    same('/%2d%2e%5f%7e', '/-._~'),
    same('/%20%21%2a%3b%3F%40', '/%20%21%2a%3b%3F%40'),
    same('/%c3%A9', '/%c3%A9'),
    // No escape is made by decoding another.
    same('/%252e%252e/a', '/%252e%252e/a'),
    same('/%252f', '/%252f'),
    same('/%25', '/%25'),
    same('/%2561', '/%2561'),
    same('/%%32e', null),
    same('/%%32%65', null),
    same('/%2%65', null),
    same('/%%36%31', null),
    same('/%%31', '/%1'),
    same('/%%41g', '/%Ag'),
    // A percent sign alone stays.
    same('/100%', '/100%'),
    same('/%zz', '/%zz'),
    same('/%2', '/%2'),
    same('/%%', '/%%'),
    // NUL is refused, escaped or not; other control characters and blanks never get here.
    same('/a%00', null),
    same('/a%00/../b', null),
    same('/a\0', null),
    same('/a b', null),
    same('/a\tb', null),
    same('/a\x7f', null),
    // What does not belong in a path is encoded.
    same('/"<>^`{|}', '/%22%3C%3E%5E%60%7B%7C%7D'),
    same('/caf\xc3\xa9', '/caf%C3%A9'),
    same('/\x80\xff', '/%80%FF'),
    // What is no byte, or no path.
    same('/\u0101', null),
    // Slashes, and their escapes.
    ['/a%2Fb', ['/a%2Fb', '/a%2Fb', '/a%2Fb', '/a/b']],
    ['/a%2fb%5cc%5Cd', ['/a%2fb%5cc%5Cd', '/a%2fb%5cc%5Cd', '/a%2fb%5cc%5Cd', '/a/b/c/d']],
    ['/a%2f..%2fb', ['/a%2f..%2fb', '/a%2f..%2fb', '/a%2f..%2fb', '/b']],
    ['/a/..%2fb', ['/a/..%2fb', '/a/..%2fb', '/a/..%2fb', '/b']],
    ['/a/%2e%2e%5cb', ['/a/%2e%2e%5cb', '/a/..%5cb', '/a/..%5cb', '/b']],
    ['/a%2f%2fb', ['/a%2f%2fb', '/a%2f%2fb', '/a%2f%2fb', '/a/b']],
    ['/a//b', ['/a//b', '/a//b', '/a/b', '/a/b']],
    ['//a///b//', ['//a///b//', '//a///b//', '/a/b/', '/a/b/']],
    ['//', ['//', '//', '//', '//']],
    ['/\\', ['/\\', '//', '//', '//']],
    ['/a//../b', ['/a//../b', '/a/b', '/a/b', '/a/b']],
    ['/a/.//b', ['/a/.//b', '/a//b', '/a/b', '/a/b']],
    ['//../a', ['//../a', '/a', '/a', '/a']],
    ['/%2%66', ['/%2%66', null, null, null]],
    ['/%%35c', ['/%%35c', null, null, null]],
  ])('of %j are %j', (target, expected) => {
    expect(paths(target)).toEqual(expected);
  });

  test.each(['a', 'a/b', '?x', '*?x', '\\a', 'http://a/b', '*/a', '%2fa'])(
    'of %j, which is no absolute path, there is none',
    (target) => {
      expect(paths(target)).toEqual([null, null, null, null]);
    },
  );
});

describe('the query', () => {
  test.each<[string, string, string]>([
    ['/a/../b?x=/../%61//', '/b', '?x=/../%61//'],
    ['/a?', '/a', '?'],
    ['/a?x?y', '/a', '?x?y'],
    ['/a?%00\\', '/a', '?%00\\'],
    ['/a#b', '/a', ''],
    ['/a?x#b', '/a', '?x'],
    ['/a#b?x', '/a', ''],
    ['/..?..', '/', '?..'],
    ['/a%3fb', '/a%3fb', ''],
    ['/a%23b', '/a%23b', ''],
  ])('of %j is left as it is, and a fragment dropped', (target, path, query) => {
    expect(normalizePath(target, 'BASE')).toEqual({ path, query });
  });

  test('is kept in NONE too, and a fragment dropped', () => {
    expect(normalizePath('/a/../b?x#f', 'NONE')).toEqual({ path: '/a/../b', query: '?x' });
  });
});

describe('any path', () => {
  const piece = fc.constantFrom(
    ...['/', '//', '.', '..', '%', '%2', '%2e', '%2E', '%2f', '%5c', '%25', '%61', '%41', '%32', '%66', '%00', '%c3'],
    ...['\\', ';', ';x', 'a', 'e', 'f', '2', '5', '{', '|', '\xe9', '?', '#', '=', '~', '^'],
  );
  const target = fc.array(piece, { maxLength: 14 }).map((pieces) => `/${pieces.join('')}`);
  const RUNS = { seed: 20_261_122, numRuns: 20_000 };

  test.each(MODES)('that is normalised is its own normal form in %s', (mode) => {
    fc.assert(
      fc.property(target, (one) => {
        const first = normalizePath(one, mode);
        if (first !== null) expect(normalizePath(first.path + first.query, mode)).toEqual(first);
      }),
      RUNS,
    );
  });

  test('holds nothing afterwards that a server could take for a dot segment, a backslash or a decoded letter', () => {
    fc.assert(
      fc.property(target, (one) => {
        const path = normalizePath(one, 'DECODE_AND_MERGE_SLASHES')?.path ?? '/';
        expect(path).not.toMatch(/\/\.\.?(?:;[^/]*)?(?:\/|$)/);
        expect(path).not.toMatch(/\\|%2e|%2f|%5c|%61|%41|%32|[^\x21-\x7e]/i);
        if (path !== '//') expect(path).not.toContain('//');
      }),
      RUNS,
    );
  });

  test('is decoded to no other meaning: what an application decodes is what decoding the received path gives', () => {
    const decoded = (path: string): string =>
      path.replace(/%([0-9a-f]{2})/gi, (_, byte: string) => String.fromCharCode(Number.parseInt(byte, 16)));
    fc.assert(
      fc.property(target, (one) => {
        const [received = ''] = one.split(/[?#]/);
        // Where nothing is taken out or turned, decoding afterwards gives what decoding at once gives.
        if (/[\\/]\.|[\\/]%2e|\\/i.test(received)) return;
        const path = normalizePath(one, 'BASE')?.path;
        if (path !== undefined) expect(decoded(path)).toBe(decoded(received));
      }),
      RUNS,
    );
  });
});
