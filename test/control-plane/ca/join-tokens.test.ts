import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { JoinTokens } from '../../../control-plane/ca/join-tokens.ts';
import { TOKEN_LIMITS } from '../../../control-plane/ca/new-join-token.ts';
import { EXIT } from '../../../mesh/errors.ts';
import { crashingOperations, fillableDisk, ORDERS, TestClock, temporaryDirectory } from './support.ts';

const KEY = 'a'.repeat(64);
const OTHER_KEY = 'b'.repeat(64);
const code = (value: string) => expect.objectContaining({ code: value });

function setUp(): { dataDir: string; clock: TestClock; tokens: JoinTokens; reopen(): JoinTokens } {
  const dataDir = temporaryDirectory();
  const clock = new TestClock();
  const reopen = (): JoinTokens => JoinTokens.open(dataDir, clock.read);
  return { dataDir, clock, tokens: reopen(), reopen };
}

describe('a join token', () => {
  it('proves namespace, service account and labels, once', () => {
    const { tokens } = setUp();
    const { token } = tokens.create({ ...ORDERS, labels: { app: 'orders', 'app.kubernetes.io/part-of': '' } });
    expect(token).toMatch(/^postern-join-[A-Za-z0-9_-]{43}$/);
    expect(tokens.redeem(token, KEY)).toEqual({
      ...ORDERS,
      labels: { app: 'orders', 'app.kubernetes.io/part-of': '' },
    });
    expect(() => tokens.redeem(token, OTHER_KEY)).toThrow(code('token-used'));
  });

  it('is 256 bits of its own each time', () => {
    const { tokens } = setUp();
    const made = Array.from({ length: 20 }, () => tokens.create(ORDERS));
    expect(new Set(made.map(({ token }) => token)).size).toBe(20);
    expect(new Set(made.map(({ id }) => id)).size).toBe(20);
  });

  it('is nowhere on disk, and its file is for the owner alone', () => {
    const { dataDir, tokens } = setUp();
    const { token } = tokens.create(ORDERS);
    const directory = join(dataDir, 'join-tokens');
    const names = fs.readdirSync(directory);
    expect(names).toHaveLength(1);
    for (const name of names) {
      const text = name + fs.readFileSync(join(directory, name), 'utf8');
      expect(text).not.toContain(token.slice('postern-join-'.length));
      expect(fs.statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    }
    expect(fs.statSync(directory).mode & 0o777).toBe(0o700);
  });

  it('works across a restart, before and after its use', () => {
    const { tokens, reopen } = setUp();
    const { token } = tokens.create(ORDERS);
    expect(reopen().redeem(token, KEY)).toMatchObject(ORDERS);
    expect(() => reopen().redeem(token, OTHER_KEY)).toThrow(code('token-used'));
  });

  it('may be used again by the same key for a minute, for an answer may be lost', () => {
    const { clock, tokens, reopen } = setUp();
    const { token } = tokens.create({ ...ORDERS, ttlSeconds: 1 });
    tokens.redeem(token, KEY);
    clock.now += TOKEN_LIMITS.retryMs;
    expect(tokens.redeem(token, KEY)).toMatchObject(ORDERS);
    expect(reopen().redeem(token, KEY)).toMatchObject(ORDERS);
    clock.now += 1;
    expect(() => tokens.redeem(token, KEY)).toThrow(code('token-used'));
  });

  it('expires, is remembered as expired for a while, and is then forgotten with its file', () => {
    const { clock, dataDir, tokens } = setUp();
    const { token, expiresAt } = tokens.create(ORDERS);
    expect(expiresAt - clock.now).toBe(600_000);
    clock.now = expiresAt;
    expect(() => tokens.redeem(token, KEY)).toThrow(code('token-expired'));
    clock.now += TOKEN_LIMITS.rememberMs;
    tokens.prune();
    expect(() => tokens.redeem(token, KEY)).toThrow(code('token-unknown'));
    expect(fs.readdirSync(join(dataDir, 'join-tokens'))).toEqual([]);
  });

  it.each([
    '',
    'postern-join-',
    'x',
    `postern-join-${'A'.repeat(43)}`,
    `postern-join-${'A'.repeat(44)}`,
    '../../ca/root-1.key',
  ])('that was never made is unknown: %j', (token) => {
    const { tokens } = setUp();
    expect(() => tokens.redeem(token, KEY)).toThrow(
      expect.objectContaining({ code: 'token-unknown', exitCode: EXIT.noPermission }),
    );
  });

  it('is not shown by the errors about it', () => {
    const { tokens } = setUp();
    const { token } = tokens.create(ORDERS);
    tokens.redeem(token, KEY);
    expect(() => tokens.redeem(token, OTHER_KEY)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining(token) }),
    );
  });
});

describe('one use', () => {
  it('holds when many ask at once, each with a key of its own', async () => {
    const { tokens } = setUp();
    const { token } = tokens.create(ORDERS);
    const attempts = Array.from({ length: 50 }, async (_, index) => {
      await Promise.resolve();
      return tokens.redeem(token, String(index));
    });
    const results = await Promise.allSettled(attempts);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('holds wherever the process ends during a redemption', () => {
    for (let at = 0; ; at++) {
      const { dataDir, clock, tokens, reopen } = setUp();
      const { token } = tokens.create(ORDERS);
      const operations = crashingOperations(at);
      const redeem = (store: JoinTokens, key: string): number => {
        try {
          store.redeem(token, key);
          return 1;
        } catch {
          return 0;
        }
      };
      const before = redeem(JoinTokens.open(dataDir, clock.read, operations), KEY);
      const after = redeem(reopen(), OTHER_KEY);
      expect(before + after).toBeLessThanOrEqual(1);
      if (before === 1) break;
      expect(at).toBeLessThan(20);
    }
  });

  it('is refused by a full disk, which leaves the token unused', () => {
    const disk = fillableDisk();
    const tokens = JoinTokens.open(temporaryDirectory(), new TestClock().read, disk.operations);
    const { token } = tokens.create(ORDERS);
    disk.full = true;
    expect(() => tokens.redeem(token, KEY)).toThrow(code('ERR_DISK_FULL'));
    expect(() => tokens.create(ORDERS)).toThrow(code('ERR_DISK_FULL'));
    disk.full = false;
    expect(tokens.redeem(token, OTHER_KEY)).toMatchObject(ORDERS);
  });
});

describe('create', () => {
  it.each([
    [{ ...ORDERS, ttlSeconds: 0 }],
    [{ ...ORDERS, ttlSeconds: 86_401 }],
    [{ ...ORDERS, ttlSeconds: 1.5 }],
    [{ ...ORDERS, ttlSeconds: Number.NaN }],
    [{ namespace: '', serviceAccount: 'a' }],
    // The control plane's own identity.
    [{ namespace: 'postern-system', serviceAccount: 'control-plane' }],
    [{ namespace: 'a/sa/b', serviceAccount: 'a' }],
    [{ namespace: '..', serviceAccount: 'a' }],
    [{ ...ORDERS, labels: { 'a b': 'c' } }],
    [{ ...ORDERS, labels: { a: 'b c' } }],
    [{ ...ORDERS, labels: { a: 'x'.repeat(64) } }],
    [{ ...ORDERS, labels: Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`l${index}`, ''])) }],
  ])('refuses %j', (request) => {
    expect(() => setUp().tokens.create(request)).toThrow(
      expect.objectContaining({ code: 'ERR_TOKEN_REQUEST', exitCode: EXIT.usage }),
    );
  });
});

it.each([
  '',
  '{',
  '[]',
  '{"version":1}',
  '{"version":2,"namespace":"a","serviceAccount":"b","labels":{},"expiresAt":1,"used":null}',
])('a damaged record %j is named, with what to do', (content) => {
  const { dataDir, reopen } = setUp();
  const path = join(dataDir, 'join-tokens', `${'0'.repeat(64)}.json`);
  fs.writeFileSync(path, content);
  expect(() => reopen()).toThrow(
    expect.objectContaining({ code: 'ERR_TOKENS_DAMAGED', message: expect.stringContaining(path) }),
  );
});
