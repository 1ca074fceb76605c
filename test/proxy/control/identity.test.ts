import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { CertificateRequest } from '../../../mesh/push.ts';
import { generateKey } from '../../../proxy/control/svid.ts';
import { HOUR, ID, IdentityRun, refuse } from './support/identity-run.ts';
import { ThrowAwayCa } from './support/throw-away-ca.ts';

let run: IdentityRun;
beforeEach(() => {
  run = new IdentityRun('joinTokenFile', 'first-token\n');
});
afterEach(async () => {
  await run.end();
});

it('shows the token once, and after that the certificate in hand', async () => {
  await run.start();
  await run.clock.advance(HOUR * 0.6);
  expect(run.proofs).toEqual([{ token: 'first-token' }, { svid: run.svids[0] }]);
  expect(run.svids).toHaveLength(2);
});

it('renews at half of the lifetime, each time with a new key', async () => {
  await run.start();
  await run.clock.advance(HOUR / 2 - 1);
  expect(run.svids).toHaveLength(1);
  await run.clock.advance(1);
  expect(run.svids).toHaveLength(2);
  expect(run.svids[0]?.privateKey).not.toBe(run.svids[1]?.privateKey);
});

it('keeps the valid certificate while renewals fail, and tries ever more slowly', async () => {
  await run.start();
  run.answer = () => {
    throw new Error('control plane away');
  };
  await run.clock.advance(HOUR * 0.7);
  expect(run.identity.current).toBe(run.svids[0]);
  expect(run.identity.valid).toBe(true);
  expect(run.recorded.lines.at(-1)).toContain('control plane away; the present one stays in use');
  // A minute between attempts at most, half of that by jitter: about 24 in the 12 minutes after the first ten.
  expect(run.proofs.length).toBeGreaterThan(15);
  expect(run.proofs.length).toBeLessThan(40);
  run.answer = run.sign();
  await run.clock.advance(60_000);
  expect(run.svids).toHaveLength(2);
});

it('goes back to the token file once the certificate has expired', async () => {
  await run.start();
  run.answer = () => {
    throw new Error('control plane away');
  };
  await run.clock.advance(HOUR + 60_000);
  expect(run.identity.valid).toBe(false);
  expect(run.recorded.lines.at(-1)).toContain('the present one has expired');
  writeFileSync(run.tokenFile, 'second-token\n');
  run.answer = run.sign();
  await run.clock.advance(60_000);
  expect(run.proofs.at(-1)).toEqual({ token: 'second-token' });
  expect(run.identity.valid).toBe(true);
});

it('goes back to the token file when the control plane does not take the certificate', async () => {
  await run.start();
  run.answer = refuse(401, 'unknown-authority', 'no');
  await run.clock.advance(HOUR / 2);
  writeFileSync(run.tokenFile, 'second-token\n');
  await run.clock.advance(60_000);
  expect(run.proofs).toContainEqual({ token: 'second-token' });
  expect(run.identity.current).toBe(run.svids[0]);
});

it('fails for good where the first token is refused, with what to do and without the token', async () => {
  run.answer = refuse(401, 'token-used', 'no');
  await run.start();
  const error = await run.ended;
  expect(error).toMatchObject({ code: 'ERR_JOIN_REFUSED', exitCode: 77 });
  expect(String(error)).toMatch(/token-used.*postern token create/);
  expect(String(error) + run.recorded.lines.join()).not.toContain('first-token');
});

it('keeps trying while the control plane cannot be reached at first', async () => {
  run.answer = () => {
    throw new Error('connection refused');
  };
  await run.start();
  await run.clock.advance(120_000);
  expect(run.svids).toHaveLength(0);
  run.answer = run.sign();
  await run.clock.advance(15_000);
  expect(run.svids).toHaveLength(1);
});

it('renews within 30 s when the mesh prefers another root, and not again for the same reason', async () => {
  await run.start();
  const next = new ThrowAwayCa('test.mesh', run.clock.now());
  run.clock.luck = 0.5;
  run.identity.followRoots([run.ca.root, next.root]);
  await run.clock.advance(30_000);
  expect(run.svids).toHaveLength(1);
  run.identity.followRoots([next.root, run.ca.root]);
  await run.clock.advance(10_000);
  run.identity.followRoots([next.root, run.ca.root]);
  const old = run.ca;
  run.ca = next;
  await run.clock.advance(5000);
  expect(run.svids).toHaveLength(2);
  run.identity.followRoots([next.root, old.root]);
  await run.clock.advance(60_000);
  expect(run.svids).toHaveLength(2);
});

it.each([
  [
    'for another key',
    () => run.ca.issue(generateKey().publicKey, ID, run.clock.now(), run.clock.now() + HOUR),
    'not for the key',
  ],
  [
    'for another identity',
    (request: CertificateRequest) => run.sign('spiffe://test.mesh/ns/shop/sa/payments')(request),
    'sa/payments',
  ],
  ['from a root that is not trusted', foreign(), 'does not end in a trusted root'],
  ['with a broken chain', broken(), 'chain is broken'],
])('refuses a certificate %s', async (_, issue, message) => {
  run.answer = issue;
  await run.start();
  expect(run.svids).toEqual([]);
  expect(run.recorded.lines.join()).toContain(message);
  expect(run.recorded.lines.join()).not.toContain('PRIVATE KEY');
});

function foreign(): IdentityRun['answer'] {
  return ({ csr }) => ({
    ...new ThrowAwayCa('test.mesh', run.clock.now()).sign(csr, ID, run.clock.now(), run.clock.now() + HOUR),
    roots: [run.ca.root],
  });
}

function broken(): IdentityRun['answer'] {
  return ({ csr }) => {
    const own = run.ca.sign(csr, ID, run.clock.now(), run.clock.now() + HOUR);
    const [leaf = ''] = own.chain.split(/(?<=-----END CERTIFICATE-----\n)/);
    const [, intermediate = ''] = new ThrowAwayCa('test.mesh', run.clock.now())
      .sign(csr, ID, run.clock.now(), run.clock.now() + HOUR)
      .chain.split(/(?<=-----END CERTIFICATE-----\n)/);
    return { ...own, chain: leaf + intermediate };
  };
}
