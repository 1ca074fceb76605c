import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseSubject } from '../../../control-plane/ca/revocation.ts';
import { MAX_REVOCATIONS, Revocations } from '../../../control-plane/ca/revocations.ts';
import { EXIT } from '../../../mesh/errors.ts';
import { fillableDisk, START, TestClock, temporaryDirectory } from './support.ts';

const ORDERS = 'spiffe://cluster.local/ns/shop/sa/orders';
const DAY = 86_400;

function setUp(): { path: string; clock: TestClock; revocations: Revocations; reopen(): Revocations } {
  const dataDir = temporaryDirectory();
  const clock = new TestClock();
  const reopen = (): Revocations => Revocations.open({ dataDir, clock: clock.read, maxTtlSeconds: DAY });
  return { path: join(dataDir, 'revocations.json'), clock, revocations: reopen(), reopen };
}

describe('parseSubject', () => {
  it.each([
    [ORDERS, 'spiffeId', ORDERS],
    ['0AB', 'serial', 'AB'],
    ['0a:bb:0c', 'serial', 'ABB0C'],
    ['f'.repeat(40), 'serial', 'F'.repeat(40)],
  ])('reads %s', (text, kind, value) => {
    expect(parseSubject(text)).toEqual({ kind, value });
  });

  it.each([
    '',
    '0',
    '00:00',
    '0x12',
    '12:',
    ':12',
    '1:2:3',
    '12 34',
    'xyz',
    'f'.repeat(41),
    'spiffe://cluster.local',
    `${ORDERS}/`,
    ' 12',
  ])('refuses %j', (text) => {
    expect(() => parseSubject(text)).toThrow(
      expect.objectContaining({ code: 'ERR_REVOCATION_SUBJECT', exitCode: EXIT.usage }),
    );
  });
});

describe('a revocation', () => {
  it('of an identity covers all its certificates, of a serial one, until it is taken off', () => {
    const { revocations } = setUp();
    const check = (spiffeId: string | null, serial: string): boolean => revocations.isRevoked({ spiffeId, serial });
    revocations.add(ORDERS);
    revocations.add('0a:bc');
    expect([check(ORDERS, '1'), check(null, 'ABC'), check(`${ORDERS}-2`, '1'), check(null, 'AB')]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect([revocations.remove(ORDERS), revocations.remove('ABC'), revocations.remove('ABC')]).toEqual([
      true,
      true,
      false,
    ]);
    expect([check(ORDERS, '1'), check(null, 'ABC')]).toEqual([false, false]);
  });

  it('survives a restart', () => {
    const { revocations, reopen, path } = setUp();
    revocations.add(ORDERS);
    expect(reopen().list()).toEqual([{ kind: 'spiffeId', value: ORDERS, revokedAt: START }]);
    expect(fs.statSync(path).mode & 0o777).toBe(0o600);
  });

  it('of a serial is dropped when no certificate of that age can be valid; of an identity never', () => {
    const { clock, revocations, reopen } = setUp();
    revocations.add('AB');
    revocations.add(ORDERS);
    clock.now += DAY * 1000 - 1;
    revocations.prune();
    expect(revocations.list()).toHaveLength(2);
    clock.now += 1;
    expect(
      reopen()
        .list()
        .map(({ value }) => value),
    ).toEqual([ORDERS]);
  });

  it('is told to listeners once it is in force, and not when nothing changed', () => {
    const { revocations } = setUp();
    const heard: number[] = [];
    const off = revocations.onChange(() => heard.push(revocations.list().length));
    revocations.add(ORDERS);
    revocations.add(ORDERS);
    revocations.remove('AB');
    revocations.remove(ORDERS);
    off();
    revocations.add(ORDERS);
    expect(heard).toEqual([1, 0]);
  });

  it('that cannot be written is not in force, and says so', () => {
    const disk = fillableDisk();
    const options = { dataDir: temporaryDirectory(), clock: () => START, maxTtlSeconds: DAY };
    const revocations = Revocations.open({ ...options, operations: disk.operations });
    disk.full = true;
    expect(() => revocations.add(ORDERS)).toThrow(expect.objectContaining({ code: 'ERR_DISK_FULL' }));
    expect(revocations.list()).toEqual([]);
  });
});

it('the list is bounded', () => {
  const { path, reopen } = setUp();
  const entries = Array.from({ length: MAX_REVOCATIONS }, (_, index) => ({
    kind: 'serial',
    value: (index + 1).toString(16).toUpperCase(),
    revokedAt: START,
  }));
  fs.writeFileSync(path, JSON.stringify({ version: 1, revocations: entries }));
  const revocations = reopen();
  expect(() => revocations.add(ORDERS)).toThrow(expect.objectContaining({ code: 'ERR_REVOCATION_LIMIT' }));
  revocations.remove('1');
  revocations.add(ORDERS);
});

it.each([
  '',
  '{',
  '[]',
  '{"version":2,"revocations":[]}',
  '{"version":1,"revocations":[{"kind":"serial","value":"ab","revokedAt":1}]}',
  '{"version":1,"revocations":[{"kind":"spiffeId","value":"AB","revokedAt":1}]}',
])('a damaged list %j stops the start, naming the file: it must not count as empty', (content) => {
  const { path, reopen } = setUp();
  fs.writeFileSync(path, content);
  expect(() => reopen()).toThrow(
    expect.objectContaining({ code: 'ERR_REVOCATIONS_DAMAGED', message: expect.stringContaining(path) }),
  );
});
