import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Evaluator } from '../../cli/authz/evaluate.ts';
import { linesOf } from '../../cli/authz/lines.ts';
import { type JsonObject, type JsonValue, meshSettings } from '../../policy/index.ts';
import { policy } from './objects.ts';

const LINE: JsonObject = {
  id: 'c1',
  workload: { namespace: 'shop', serviceAccount: 'orders', labels: { app: 'orders' } },
  connection: {
    protocol: 'http',
    sourcePrincipal: 'cluster.local/ns/web/sa/frontend',
    sourceIp: '10.1.0.5',
    destinationIp: '10.1.0.9',
    destinationPort: 8080,
    sni: '',
  },
  request: { method: 'GET', path: '/a?x=1', host: 'orders.shop:8080', headers: { 'x-a': '1', 'x-b': ['1', '2'] } },
  jwt: { iss: 'https://idp.example', sub: 'alice', aud: ['a'] },
};
const TCP: JsonObject = {
  id: 't',
  workload: { namespace: 'shop' },
  connection: { ...(LINE.connection as JsonObject), protocol: 'tcp' },
};
const DENY_A = policy({ action: 'DENY', rules: [{ to: [{ operation: { paths: ['/a'] } }] }] }, { name: 'deny-admin' });
const allow = (rule: JsonObject): JsonObject => policy({ rules: [rule] }, { name: 'allow' });
const mesh = (normalization = 'BASE') =>
  meshSettings({ spec: { pathNormalization: { normalization } } }, 'cluster.local');

/** The line with other values at some places, undefined removing a field. */
function changed(
  line: JsonObject,
  part: string,
  change: { readonly [field: string]: JsonValue | undefined },
): JsonObject {
  const merged = Object.entries({ ...(line[part] as JsonObject), ...change }).filter(
    ([, value]) => value !== undefined,
  );
  return { ...line, [part]: Object.fromEntries(merged) as JsonObject };
}
const ask = (line: JsonValue, objects: readonly JsonObject[] = [], explain = false, normalization = 'BASE') =>
  new Evaluator(objects, mesh(normalization), explain).answer(JSON.stringify(line), 7);

describe('the answer to a line', () => {
  test('has exactly the fields of the contract, in their order', () => {
    expect(JSON.stringify(ask(LINE, [DENY_A]))).toBe(
      '{"id":"c1","decision":"deny","policy":"shop/deny-admin","rule":0,"path":"/a","status":403,"audit":[],"dryRun":{"allow":null,"deny":null}}',
    );
  });

  test('has no policy and no rule where none matched, and no status where the request is allowed', () => {
    expect(ask(LINE)).toMatchObject({ decision: 'allow', policy: null, rule: null, path: '/a', status: null });
    expect(ask(LINE, [policy({})])).toMatchObject({ decision: 'deny', policy: null, rule: null, status: 403 });
  });

  test('on TCP has neither path nor status', () => {
    expect(ask(TCP, [allow({ from: [{ source: { namespaces: ['web'] } }] })])).toEqual({
      id: 't',
      decision: 'allow',
      policy: 'shop/allow',
      rule: 0,
      path: null,
      status: null,
      audit: [],
      dryRun: { allow: null, deny: null },
    });
    expect(ask(TCP, [DENY_A])).toMatchObject({ decision: 'deny', policy: 'shop/deny-admin', path: null, status: null });
  });

  test('names what audits, and what dry runs would have said', () => {
    const trial = { annotations: { 'istio.io/dry-run': 'true' } };
    const objects = [
      policy({ action: 'AUDIT', rules: [{}] }, { name: 'watch' }),
      policy({ action: 'DENY', rules: [{}] }, { name: 'd', ...trial }),
      policy({}, { name: 'a', ...trial }),
    ];
    expect(ask(LINE, objects)).toMatchObject({
      decision: 'allow',
      audit: ['shop/watch'],
      dryRun: { allow: 'deny', deny: 'deny' },
    });
  });

  test.each<[path: string, mode: string, normalized: string | null]>([
    ['/x/../a?y', 'BASE', '/a'],
    ['/x/../a?y', 'NONE', '/x/../a'],
    ['//a', 'BASE', '//a'],
    ['//a', 'MERGE_SLASHES', '/a'],
    ['/x%2f..%2fa', 'DECODE_AND_MERGE_SLASHES', '/a'],
    ['/a#f', 'BASE', '/a'],
    ['/caf\u00e9', 'BASE', '/caf%C3%A9'],
    ['/caf\u00e9', 'NONE', '/caf\u00e9'],
    ['/a%00', 'BASE', null],
    ['a', 'BASE', null],
  ])('is of the path %s normalised in %s: %s', (path, mode, normalized) => {
    const answer = ask(changed(LINE, 'request', { path }), [DENY_A], false, mode);
    const denied = normalized === '/a';
    expect(answer).toMatchObject({
      path: normalized,
      decision: denied || normalized === null ? 'deny' : 'allow',
      status: normalized === null ? 400 : denied ? 403 : null,
    });
  });

  test('to a path that cannot be normalised is 400, by no policy', () => {
    expect(ask(changed(LINE, 'request', { path: '/a%00' }), [DENY_A], true)).toEqual({
      id: 'c1',
      decision: 'deny',
      policy: null,
      rule: null,
      path: null,
      status: 400,
      audit: [],
      dryRun: { allow: null, deny: null },
      trace: [],
    });
  });

  test('is of host, headers, token and text as they reach a sidecar', () => {
    const operations = { to: [{ operation: { hosts: ['ORDERS.shop:*'], methods: ['GET'] } }] };
    const source = { from: [{ source: { requestPrincipals: ['https://idp.example/alice'] } }] };
    const when = (key: string, value: string): JsonObject => ({ when: [{ key, values: [value] }] });
    for (const rule of [
      operations,
      source,
      when('request.headers[X-B]', '2'),
      when('request.headers[:path]', '/a?x=1'),
      when('request.auth.audiences', 'a'),
    ]) {
      expect(ask(LINE, [allow(rule)])).toMatchObject({ decision: 'allow' });
    }
    const accented = changed(LINE, 'request', { headers: { 'X-Name': '\u00e9' } });
    expect(ask(accented, [allow(when('request.headers[x-name]', '\u00e9'))])).toMatchObject({ decision: 'allow' });
    expect(ask({ ...LINE, jwt: null }, [allow(source)])).toMatchObject({ decision: 'deny' });
    expect(ask(changed(LINE, 'connection', { sourcePrincipal: null }))).toMatchObject({ decision: 'allow' });
  });

  test('with --explain says that nothing is allowed from an address that is not known, where a rule asks for it', () => {
    const unknown = changed(LINE, 'connection', { sourceIp: undefined });
    const blocks = { from: [{ source: { ipBlocks: ['10.0.0.0/8'] } }], to: [{ operation: { methods: ['PUT'] } }] };
    const deny = policy({ action: 'DENY', rules: [blocks] }, { name: 'deny' });
    const note = 'nothing is allowed: a rule asks for an address that is not known';
    expect(ask(unknown, [deny, allow({})], true)).toMatchObject({
      decision: 'deny',
      policy: null,
      trace: [
        { policy: 'shop/deny', matched: false, failed: { found: '(not known)', wanted: '10.0.0.0/8' }, note },
        { policy: 'shop/allow', matched: false, failed: null, note },
      ],
    });
    expect(ask(unknown, [deny], true)).toMatchObject({ decision: 'deny', trace: [{ matched: false, note }] });
    expect(ask(LINE, [deny, allow({})], true)).toMatchObject({
      trace: [{ note: null }, { matched: true, note: null }],
    });
  });

  test('repeats any id, and nothing in a line is too deep to be answered', () => {
    expect(ask({ ...LINE, id: { run: [1, null] } })).toMatchObject({ id: { run: [1, null] }, decision: 'allow' });
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const answer = (id: string, jwt: string) =>
      new Evaluator([], mesh(), true).answer(
        JSON.stringify({ ...LINE, id: 'ID', jwt: 'JWT' })
          .replace('"ID"', id)
          .replace('"JWT"', jwt),
        7,
      );
    expect(JSON.stringify(answer(deep, 'null'))).toContain('{"id":null,"error":"line 7: id is nested');
    expect(JSON.stringify(answer('1', `{"a":${deep}}`))).toContain('"decision":"allow"');
  });

  test('with --explain has the trace: what was considered, and the first condition that failed', () => {
    const rule = { to: [{ operation: { methods: ['GET'], paths: ['/caf\u00e9'] } }] };
    const line = changed(LINE, 'request', { path: '/caf\u00e9s' });
    expect(ask(line, [allow(rule)], true, 'NONE')).toMatchObject({
      decision: 'deny',
      trace: [
        {
          policy: 'shop/allow',
          action: 'ALLOW',
          dryRun: false,
          rule: 0,
          matched: false,
          failed: { condition: 'to[0].operation.paths', found: '/caf\u00e9s', wanted: '/caf\u00e9' },
          note: null,
        },
      ],
    });
    expect(Object.keys(ask(LINE, [], false))).not.toContain('trace');
  });

  test('is of the workload of its line, however many there are', () => {
    const evaluator = new Evaluator([DENY_A], mesh(), false);
    const other = changed(LINE, 'workload', { namespace: 'pay' });
    const answers = [LINE, other, LINE].map((line) => evaluator.answer(JSON.stringify(line), 1));
    expect(answers.map((answer) => 'decision' in answer && answer.decision)).toEqual(['deny', 'allow', 'deny']);
  });

  test('needs no more of a line than what cannot be left out', () => {
    const least = {
      workload: { namespace: 'shop' },
      connection: { protocol: 'http', destinationPort: 80 },
      request: { method: 'GET', path: '/' },
    };
    expect(ask(least)).toMatchObject({ id: null, decision: 'allow' });
    const blocks = policy({ action: 'DENY', rules: [{ from: [{ source: { ipBlocks: ['10.0.0.0/8'] } }] }] });
    expect(ask(least, [blocks])).toMatchObject({ decision: 'deny', policy: null });
  });

  test.each<[JsonValue, JsonValue, string]>([
    [[], null, 'must be a JSON object'],
    [{ id: 5 }, 5, 'connection is missing'],
    [{ ...LINE, conection: {} }, 'c1', 'unknown field "conection"'],
    [{ ...LINE, workload: null }, 'c1', 'workload must be an object'],
    [{ ...LINE, jwt: 'a.b.c' }, 'c1', 'jwt must be an object'],
    [{ ...LINE, request: null }, 'c1', 'request must be an object'],
    [{ ...TCP, request: {} }, 't', 'request has no place where protocol is "tcp"'],
    [changed(LINE, 'workload', { namespace: '' }), 'c1', 'workload.namespace is empty'],
    [changed(LINE, 'workload', { labels: { a: 1 } }), 'c1', 'workload.labels.a must be a string'],
    [changed(LINE, 'connection', { protocol: 'udp' }), 'c1', 'connection.protocol must be "http" or "tcp"'],
    [changed(LINE, 'connection', { sourcePrincipal: 7 }), 'c1', 'connection.sourcePrincipal must be a string or null'],
    [changed(LINE, 'connection', { sourceIp: '10.1' }), 'c1', 'connection.sourceIp must be an IP address'],
    [changed(LINE, 'connection', { destinationPort: '80' }), 'c1', 'connection.destinationPort must be a number'],
    [changed(LINE, 'connection', { destinationPort: 65_536 }), 'c1', 'connection.destinationPort must be a number'],
    [changed(LINE, 'connection', { sorceIp: '' }), 'c1', 'unknown field "connection.sorceIp"'],
    [changed(LINE, 'request', { method: undefined }), 'c1', 'request.method is missing'],
    [changed(LINE, 'request', { path: 1 }), 'c1', 'request.path must be a string'],
    [changed(LINE, 'request', { headers: { a: [1] } }), 'c1', 'request.headers.a must be a string or a list'],
    [{ ...LINE, id: [[[[[[[[['c1']]]]]]]]] }, null, 'id is nested over 8 levels deep'],
  ])('to %j is an error with its id %j: %s', (line, id, message) => {
    expect(ask(line)).toEqual({ id, error: expect.stringContaining(`line 7: ${message}`) });
  });
});

describe('the lines of a stream', () => {
  const linesIn = async (...chunks: readonly (string | Buffer)[]) => {
    const input = (async function* () {
      for (const chunk of chunks) yield Buffer.from(chunk);
    })();
    return await Array.fromAsync(linesOf(input));
  };
  const texts = async (...chunks: readonly (string | Buffer)[]) =>
    (await linesIn(...chunks)).map(({ number, text }) => [number, text]);

  test('are found however the bytes are cut', async () => {
    const whole = Buffer.from('{"a":"\u00e9"}\n\n  \r\nb\nlast');
    const expected = [
      [1, '{"a":"\u00e9"}'],
      [4, 'b'],
      [5, 'last'],
    ];
    for (let at = 0; at <= whole.length; at++) {
      expect(await texts(whole.subarray(0, at), whole.subarray(at))).toEqual(expected);
    }
  });

  test('that are too long or not UTF-8 are no text, and those after them are read', async () => {
    expect(await linesIn('x'.repeat(1_100_000), 'x\n', Buffer.from([0xff, 0x0a]), 'ok\n')).toEqual([
      { number: 1, text: null, problem: expect.stringContaining('is longer than') },
      { number: 2, text: null, problem: 'is not UTF-8' },
      { number: 3, text: 'ok', problem: '' },
    ]);
  });
});

describe('postern authz eval, as a process', () => {
  let directory = '';
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'postern-authz-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });
  const write = (name: string, text: string): string => {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  };
  const postern = (input: string, ...args: readonly string[]) => {
    const main = join(import.meta.dirname, '../../cli/main.ts');
    return spawnSync(process.execPath, [main, 'authz', 'eval', ...args], { encoding: 'utf8', input });
  };

  test('answers each line of standard input in order, and exits 1 where one was no question', () => {
    write('policy.json', JSON.stringify(DENY_A));
    const input = ['nonsense', JSON.stringify(LINE), '', JSON.stringify({ ...LINE, id: 'c2' })].join('\n');
    const { status, stdout } = postern(input, '--manifests', directory, '--requests', '-');
    const answers = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers).toMatchObject([
      { id: null, error: expect.stringContaining('line 1: is not JSON') },
      { id: 'c1', policy: 'shop/deny-admin' },
      { id: 'c2', policy: 'shop/deny-admin' },
    ]);
    expect(status).toBe(1);
  });

  test('reads a file of requests, and mesh settings from a file, a manifest among the others, or as a manifest', () => {
    const manifest =
      'apiVersion: postern.dev/v1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {pathNormalization: {normalization: NONE}}\n';
    write('policy.json', JSON.stringify(DENY_A));
    write('mesh.yaml', manifest);
    const requests = write('requests', JSON.stringify(changed(LINE, 'request', { path: '//x/../a' })));
    const path = (...more: readonly string[]): unknown => {
      const { status, stdout } = postern('', '--manifests', directory, '--requests', requests, ...more);
      expect(status).toBe(0);
      return JSON.parse(stdout).path;
    };
    expect(path()).toBe('//x/../a');
    expect(path('--mesh-config', write('m1', 'pathNormalization: {normalization: MERGE_SLASHES}\n'))).toBe('/a');
    expect(path('--mesh-config', write('m2', manifest.replace('NONE', 'BASE')))).toBe('//a');
  });

  test('exits 65 with file, line and column where manifests or settings are not admissible, 66 without a file', () => {
    const bad = write('bad.yaml', JSON.stringify(DENY_A).replace('DENY', 'deny'));
    const requests = write('requests', '');
    expect(postern('', '--manifests', bad, '--requests', requests)).toMatchObject({
      status: 65,
      stdout: '',
      stderr: expect.stringMatching(/bad\.yaml:1:\d+: error: /),
    });
    rmSync(bad);
    const settings = write('settings', 'pathNormalization:\n  normalization: base\n');
    expect(postern('', '--manifests', directory, '--requests', requests, '--mesh-config', settings)).toMatchObject({
      status: 65,
      stderr: expect.stringContaining('settings:2:18: error: '),
    });
    expect(postern('', '--manifests', directory, '--requests', join(directory, 'none'))).toMatchObject({ status: 66 });
  });
});
