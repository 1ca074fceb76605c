import { rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { HOUR, IdentityRun, refuse } from './support/identity-run.ts';

let run: IdentityRun;
beforeEach(() => {
  run = new IdentityRun('serviceAccountTokenFile', 'first.jwt.token\n');
});
afterEach(async () => {
  expect(await run.end()).toBeUndefined();
  for (const line of run.recorded.lines) expect(JSON.stringify(line)).not.toContain('jwt');
});

it('shows the token as it is then for every certificate, and beside it the one in hand', async () => {
  await run.start();
  writeFileSync(run.tokenFile, 'second.jwt.token\n');
  await run.clock.advance(HOUR * 0.6);
  expect(run.proofs).toEqual([{ token: 'first.jwt.token' }, { token: 'second.jwt.token', svid: run.svids[0] }]);
  expect(run.svids).toHaveLength(2);
});

it.each([
  [401, 'token-refused'],
  [403, 'pod-mismatch'],
  [503, 'token-unverified'],
])('tries on after a refusal with %i, and says why it has no certificate', async (status, code) => {
  run.answer = refuse(status, code, 'no pod of that name yet');
  await run.start();
  await run.clock.advance(5_000);
  expect(run.proofs.length).toBeGreaterThan(3);
  expect(run.identity.failure).toContain('no pod of that name yet');
  run.answer = run.sign();
  await run.clock.advance(20_000);
  expect(run.svids).toHaveLength(1);
  expect(run.identity.failure).toBeNull();
});

it('keeps the certificate in use while its renewal is refused, and tries without it in between', async () => {
  await run.start();
  run.answer = refuse(401, 'certificate-refused', 'no pod of that name yet');
  await run.clock.advance(HOUR * 0.7);
  expect(run.identity.current).toBe(run.svids[0]);
  expect(run.identity.valid).toBe(true);
  const shown = run.proofs.slice(1, 5).map((proof) => 'svid' in proof);
  expect(shown).toEqual([true, false, true, false]);
});

it('shows no certificate that has expired', async () => {
  await run.start();
  run.answer = refuse(503, 'token-unverified', 'no pod of that name yet');
  await run.clock.advance(HOUR * 1.5);
  expect(run.proofs.at(-1)).toEqual({ token: 'first.jwt.token' });
});

it('waits for a token that is not there yet', async () => {
  rmSync(run.tokenFile);
  await run.start();
  await run.clock.advance(5_000);
  expect(run.identity.failure).toContain('ENOENT');
  expect(run.proofs).toEqual([]);
  writeFileSync(run.tokenFile, 'late.jwt.token');
  await run.clock.advance(20_000);
  expect(run.svids).toHaveLength(1);
});

it.each([
  ['nothing', ''],
  ['two lines', 'a.jwt\nb.jwt'],
  ['more than a token can be', 'j'.repeat(20_000)],
])('waits while the file holds %s, without telling it', async (_, content) => {
  writeFileSync(run.tokenFile, content);
  await run.start();
  await run.clock.advance(1_000);
  expect(run.proofs).toEqual([]);
  expect(run.identity.failure).toBe(
    `${run.tokenFile} does not hold a service account token (one line), as if the kubelet could not get one: look at the pod's Events`,
  );
});
