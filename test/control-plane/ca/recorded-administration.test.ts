import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { AdministrationHandlers } from '../../../control-plane/ca/administration.ts';
import { recordedAdministration } from '../../../control-plane/ca/recorded-administration.ts';
import { ControlPlaneMetrics } from '../../../control-plane/metrics.ts';
import { EXIT, PosternError } from '../../../mesh/errors.ts';

const SUBJECT = 'spiffe://cluster.local/ns/shop/sa/orders';
const ACCOUNT = { namespace: 'shop', serviceAccount: 'orders', ttlSeconds: undefined, labels: {} };
const unused = (): never => {
  throw new Error('not asked for here');
};

function setUp(handlers: Partial<AdministrationHandlers>) {
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
  const metrics = new ControlPlaneMetrics();
  const all: AdministrationHandlers = {
    createToken: unused,
    describeAuthority: unused,
    rotateRoot: unused,
    addRevocation: unused,
    removeRevocation: unused,
    listRevocations: unused,
    ...handlers,
  };
  const storageErrors = async () => (await metrics.storageErrors.get()).values[0]?.value;
  return { recorded: recordedAdministration(all, { log, metrics }), lines, storageErrors };
}

test('a revocation, and its end, are in the log', async () => {
  const revocation = { kind: 'spiffeId', value: SUBJECT, revokedAt: 0 } as const;
  const { recorded, lines } = setUp({ addRevocation: () => revocation, removeRevocation: (one) => one === SUBJECT });
  expect(await recorded.addRevocation(SUBJECT)).toEqual(revocation);
  expect(await recorded.removeRevocation(SUBJECT)).toBe(true);
  expect(await recorded.removeRevocation('another')).toBe(false);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { subject: SUBJECT, msg: 'revoked' },
    { subject: SUBJECT, msg: 'no longer revoked' },
  ]);
});

test('a join token is in the log by its id and its account, never by itself', async () => {
  const { recorded, lines } = setUp({ createToken: () => ({ token: 'the-secret', id: 'abc', expiresAt: 0 }) });
  expect(await recorded.createToken(ACCOUNT)).toMatchObject({ token: 'the-secret' });
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { id: 'abc', namespace: 'shop', serviceAccount: 'orders', msg: 'a join token was made' },
  ]);
  expect(lines.join()).not.toContain('the-secret');
});

test('the steps of a rotation are in the log, and told to who asked', async () => {
  const told: string[] = [];
  const { recorded, lines } = setUp({
    rotateRoot: async (report) => report({ step: 'activated', message: 'the new root issues' }),
  });
  await recorded.rotateRoot(({ message }) => told.push(message));
  expect(told).toEqual(['the new root issues']);
  expect(lines.join()).toContain('rotation: the new root issues');
});

test.each([
  ['ERR_DISK_FULL', EXIT.cannotCreate, 1, 'failed'],
  ['ERR_FILE_WRITE', EXIT.cannotCreate, 1, 'failed'],
  ['ERR_REVOCATION_SUBJECT', EXIT.usage, 0, 'refused'],
])('%s reaches who asked and the log; a failed write is counted', async (code, exitCode, counted, word) => {
  const error = new PosternError(code, 'because', { exitCode });
  const { recorded, lines, storageErrors } = setUp({ addRevocation: () => Promise.reject(error) });
  await expect(recorded.addRevocation(SUBJECT)).rejects.toBe(error);
  expect(await storageErrors()).toBe(counted);
  expect(lines.join()).toMatch(new RegExp(`${word}: because`));
});
