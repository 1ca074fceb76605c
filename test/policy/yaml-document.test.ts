import { describe, expect, test } from 'vitest';
import { parseYaml, YAML_LIMITS } from '../../policy/index.ts';

const read = (text: string, limits = YAML_LIMITS) => parseYaml(text, 'f.yaml', limits);

/** The message of the one problem, and where it is. */
function problem(text: string, limits = YAML_LIMITS): string {
  const { documents, problems } = read(text, limits);
  expect(documents.length).toBe(0);
  const [first] = problems;
  return first === undefined
    ? ''
    : `${first.location.line}:${first.location.column} ${first.severity} ${first.message}`;
}

describe('what is read', () => {
  test('is JSON data, a value for each document', () => {
    const text = '# comment\na: [1, 2.5, true, null, "x", y]\nb: {c: ~}\n---\n- |\n  text\n---\n{"json": "yes"}\n';
    expect(read(text)).toMatchObject({
      problems: [],
      documents: [
        { value: { a: [1, 2.5, true, null, 'x', 'y'], b: { c: null } } },
        { value: ['text\n'] },
        { value: { json: 'yes' } },
      ],
    });
  });

  test('is YAML 1.2: yes and on are strings, dates too', () => {
    expect(read('%YAML 1.2\n---\na: yes\nb: on\nc: 2026-01-01\nd: 0o17\n').documents[0]?.value).toEqual({
      a: 'yes',
      b: 'on',
      c: '2026-01-01',
      d: 15,
    });
  });

  test('has whole numbers as keys, as portLevelMtls is written', () => {
    expect(read('80: a\n"8080": b\n').documents[0]?.value).toEqual({ 80: 'a', 8080: 'b' });
  });

  test('is nothing for an empty file or one of comments', () => {
    expect(read('').documents).toEqual([]);
    expect(read('# nothing\n').documents).toEqual([]);
  });
});

describe('places', () => {
  const [document] = read('a:\n  - b: 1\n    c: [x,\n      y]\nd:\n  e: {f: g}\n').documents;
  test.each<[readonly (string | number)[], number, number]>([
    [[], 1, 1],
    [['a'], 1, 1],
    [['a', 0], 2, 5],
    [['a', 0, 'b'], 2, 8],
    [['a', 0, 'c', 1], 4, 7],
    [['d', 'e', 'f'], 6, 10],
    [['d', 'missing', 'deeper'], 5, 1],
    [['a', 7], 1, 1],
    [['nothing'], 1, 1],
  ])('%j is at %i:%i', (path, line, column) => {
    expect(document?.locate(path)).toEqual({ file: 'f.yaml', line, column });
  });

  test.each<[readonly (string | number)[], number, number]>([
    [['a', 0, 'b'], 2, 5],
    [['a', 0, 'c', 1], 4, 7],
    [['d', 'e', 'f'], 6, 7],
    [['d', 'missing'], 5, 1],
  ])('the key of %j is at %i:%i', (path, line, column) => {
    expect(document?.locate(path, 'key')).toEqual({ file: 'f.yaml', line, column });
  });
});

describe('what is refused', () => {
  test.each<[string, string, string]>([
    ['a syntax error', 'a: [1\nb: 2\n', '2:1 error'],
    ['an open quote', 'a: "x\n', 'error'],
    ['a tab as indentation', 'a:\n\tb: 1\n', 'error'],
    ['a duplicate key', 'a: 1\nb: 2\na: 3\n', '3:1 error the key "a" stands twice'],
    ['a duplicate of a number and a string', '80: a\n"80": b\n', '2:1 error the key "80" stands twice'],
    ['a duplicate key in JSON', '{"a": 1, "a": 2}', 'stands twice'],
    ['an alias', 'a: &x 1\nb: *x\n', '1:4 error YAML anchors and aliases are refused'],
    ['an alias alone', 'b: *x\n', 'anchors and aliases are refused'],
    ['a merge key', 'a:\n  <<: {b: 1}\n', '2:3 error the key "<<" is refused'],
    ['a tag', 'a: !!binary aGk=\n', '1:4 error YAML tags are refused'],
    ['a tag of its own', 'a: !secret x\n', 'YAML tags are refused'],
    ['a directive', '%TAG ! tag:x,2000:\n---\na: 1\n', 'directives other than'],
    ['another version', '%YAML 1.1\n---\na: yes\n', 'directives other than'],
    ['a key that is null', '~: 1\n', 'a key must be a string'],
    ['a key that is a boolean', 'true: 1\n', 'a key must be a string'],
    ['a key that is a fraction', '1.5: 1\n', 'a key must be a string'],
    ['a key that is a hexadecimal number', '0x10: 1\n', 'a key must be a string'],
    ['a key that is a list', '[a]: 1\n', 'a key must be a string'],
    ['a key that is a map', '? {a: b}\n: 1\n', 'a key must be a string'],
    ['__proto__', '{"__proto__": {"a": 1}}', 'the key "__proto__" is refused'],
    ['infinity', 'a: .inf\n', 'is no JSON value'],
    ['not a number', 'a: .nan\n', 'is no JSON value'],
  ])('%s', (_, text, expected) => {
    expect(problem(text)).toContain(expected);
  });

  test('a document with a problem leaves the others', () => {
    const { documents, problems } = read('a: 1\n---\na: 1\na: 2\n---\nb: 1\n');
    expect(documents.map(({ value }) => value)).toEqual([{ a: 1 }, { b: 1 }]);
    expect(problems).toHaveLength(1);
  });
});

describe('bounds, held before anything is built', () => {
  test.each<[string, string, string]>([
    ['flow lists', '['.repeat(500_000), 'nested over 64 levels'],
    ['flow maps', '{a: '.repeat(200_000), 'nested over 64 levels'],
    ['block lists', '- '.repeat(500_000), 'nested over 64 levels'],
    ['explicit keys', '? '.repeat(500_000), 'nested over 64 levels'],
    [
      'indentation',
      Array.from({ length: 1_000 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'),
      'nested over 64 levels',
    ],
    ['bytes', `a: ${'x'.repeat(YAML_LIMITS.bytes)}`, 'at most 4194304 are read'],
    ['bytes, not characters', `a: ${'ä'.repeat(YAML_LIMITS.bytes / 2)}`, 'at most 4194304 are read'],
    ['documents', '---\na\n'.repeat(10_001), 'has over 10000 documents'],
    [
      'a bomb of aliases',
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'
        .split('')
        .map((name, index) => `${name}: &${name} [${`*${'abcdefgh'[index]},`.repeat(9)}]`)
        .join('\n')}`,
      'anchors and aliases are refused',
    ],
  ])('%s', (_, text, expected) => {
    expect(problem(text)).toContain(expected);
  });

  test('tokens', () => {
    expect(problem('a: 1\n'.repeat(100), { ...YAML_LIMITS, tokens: 100 })).toContain('has over 100 tokens');
  });

  test('problems, of which the first are told', () => {
    const { problems } = read('a: .nan\n---\n'.repeat(500));
    expect(problems).toHaveLength(101);
    expect(problems.at(-1)?.message).toContain('the rest is not shown');
  });

  test('10,000 rules of callers, methods and paths in one file are within them', () => {
    const rule = `
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/frontend"], notNamespaces: ["test"]}}]
    to:
    - operation:
        methods: ["GET", "HEAD"]
        paths: ["/api/v1/orders", "/api/v1/orders/*"]`;
    const policy = `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nspec:\n  rules:${rule.repeat(500)}\n`;
    const text = new Array(20).fill(policy).join('---\n');
    expect(text.length).toBeLessThan(YAML_LIMITS.bytes);
    expect(read(text).problems).toEqual([]);
  }, 60_000);
});
