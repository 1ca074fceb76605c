import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { CertificateRequest, CertificateResponse } from '../../../mesh/push.ts';
import { ControlPlaneRefusal } from '../../../proxy/control/control-plane-request.ts';
import { Identity } from '../../../proxy/control/identity.ts';
import type { Proof } from '../../../proxy/control/proof.ts';
import { generateKey, type Svid } from '../../../proxy/control/svid.ts';
import { FakeClock, settle } from './support/fake-clock.ts';
import { recordedLog } from './support/quiet-log.ts';
import { ThrowAwayCa } from './support/throw-away-ca.ts';

const HOUR = 3_600_000;
const ID = 'spiffe://test.mesh/ns/shop/sa/orders';

let directory: string;
let clock: FakeClock;
let ca: ThrowAwayCa;
let proofs: Proof[];
let svids: Svid[];
let identity: Identity;
let answer: (request: CertificateRequest) => CertificateResponse;
let recorded: ReturnType<typeof recordedLog>;
let ended: Promise<unknown>;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'postern-identity-'));
  writeFileSync(join(directory, 'token'), 'first-token\n');
  clock = new FakeClock();
  ca = new ThrowAwayCa('test.mesh', clock.now());
  proofs = [];
  svids = [];
  recorded = recordedLog();
  answer = ({ csr }) => ca.sign(csr, ID, clock.now(), clock.now() + HOUR);
});

afterEach(async () => {
  identity.close();
  await ended;
  rmSync(directory, { recursive: true });
});

async function run(): Promise<void> {
  identity = new Identity({
    workload: { namespace: 'shop', serviceAccount: 'orders' },
    joinTokenFile: join(directory, 'token'),
    ttlSeconds: null,
    authority: {
      trustDomain: async () => 'test.mesh',
      requestCertificate: async (request, proof) => {
        proofs.push(proof);
        return answer(request);
      },
    },
    trust: { roots: () => [ca.root], setRoots: () => undefined },
    clock,
    log: recorded.log,
    onSvid: (svid) => svids.push(svid),
  });
  ended = identity.run().catch((error: unknown) => error);
  await settle();
}

const refuse = (status: number, code: string) => () => {
  throw new ControlPlaneRefusal(status, code, 'no');
};

it('shows the token once, and after that the certificate in hand', async () => {
  await run();
  await clock.advance(HOUR * 0.6);
  expect(proofs).toEqual([{ token: 'first-token' }, { svid: svids[0] }]);
  expect(svids).toHaveLength(2);
});

it('renews at half of the lifetime, each time with a new key', async () => {
  await run();
  await clock.advance(HOUR / 2 - 1);
  expect(svids).toHaveLength(1);
  await clock.advance(1);
  expect(svids).toHaveLength(2);
  expect(svids[0]?.privateKey).not.toBe(svids[1]?.privateKey);
});

it('keeps the valid certificate while renewals fail, and tries ever more slowly', async () => {
  await run();
  answer = () => {
    throw new Error('control plane away');
  };
  await clock.advance(HOUR * 0.7);
  expect(identity.current).toBe(svids[0]);
  expect(identity.valid).toBe(true);
  // A minute between attempts at most, half of that by jitter: about 24 in the 12 minutes after the first ten.
  expect(proofs.length).toBeGreaterThan(15);
  expect(proofs.length).toBeLessThan(40);
  answer = ({ csr }) => ca.sign(csr, ID, clock.now(), clock.now() + HOUR);
  await clock.advance(60_000);
  expect(svids).toHaveLength(2);
});

it('goes back to the token file once the certificate has expired', async () => {
  await run();
  answer = () => {
    throw new Error('control plane away');
  };
  await clock.advance(HOUR + 60_000);
  expect(identity.valid).toBe(false);
  writeFileSync(join(directory, 'token'), 'second-token\n');
  answer = ({ csr }) => ca.sign(csr, ID, clock.now(), clock.now() + HOUR);
  await clock.advance(60_000);
  expect(proofs.at(-1)).toEqual({ token: 'second-token' });
  expect(identity.valid).toBe(true);
});

it('goes back to the token file when the control plane does not take the certificate', async () => {
  await run();
  answer = refuse(401, 'unknown-authority');
  await clock.advance(HOUR / 2);
  writeFileSync(join(directory, 'token'), 'second-token\n');
  await clock.advance(60_000);
  expect(proofs).toContainEqual({ token: 'second-token' });
  expect(identity.current).toBe(svids[0]);
});

it('fails for good where the first token is refused, with what to do and without the token', async () => {
  answer = refuse(401, 'token-used');
  await run();
  const error = await ended;
  expect(error).toMatchObject({ code: 'ERR_JOIN_REFUSED', exitCode: 77 });
  expect(String(error)).toMatch(/token-used.*postern token create/);
  expect(String(error) + recorded.lines.join()).not.toContain('first-token');
});

it('keeps trying while the control plane cannot be reached at first', async () => {
  answer = () => {
    throw new Error('connection refused');
  };
  await run();
  await clock.advance(120_000);
  expect(svids).toHaveLength(0);
  answer = ({ csr }) => ca.sign(csr, ID, clock.now(), clock.now() + HOUR);
  await clock.advance(15_000);
  expect(svids).toHaveLength(1);
});

it('renews within 30 s when the mesh prefers another root, and not again for the same reason', async () => {
  await run();
  const next = new ThrowAwayCa('test.mesh', clock.now());
  clock.luck = 0.5;
  identity.followRoots([ca.root, next.root]);
  await clock.advance(30_000);
  expect(svids).toHaveLength(1);
  identity.followRoots([next.root, ca.root]);
  await clock.advance(10_000);
  identity.followRoots([next.root, ca.root]);
  const old = ca;
  ca = next;
  await clock.advance(5000);
  expect(svids).toHaveLength(2);
  identity.followRoots([next.root, old.root]);
  await clock.advance(60_000);
  expect(svids).toHaveLength(2);
});

it.each([
  ['for another key', () => ca.issue(generateKey().publicKey, ID, clock.now(), clock.now() + HOUR), 'not for the key'],
  ['for another identity', sign('spiffe://test.mesh/ns/shop/sa/payments'), 'sa/payments'],
  ['from a root that is not trusted', foreign(), 'does not end in a trusted root'],
  ['with a broken chain', broken(), 'chain is broken'],
])('refuses a certificate %s', async (_, issue, message) => {
  answer = issue;
  await run();
  expect(svids).toEqual([]);
  expect(recorded.lines.join()).toContain(message);
  expect(recorded.lines.join()).not.toContain('PRIVATE KEY');
});

function sign(id: string): typeof answer {
  return ({ csr }) => ca.sign(csr, id, clock.now(), clock.now() + HOUR);
}

function foreign(): typeof answer {
  return ({ csr }) => ({
    ...new ThrowAwayCa('test.mesh', clock.now()).sign(csr, ID, clock.now(), clock.now() + HOUR),
    roots: [ca.root],
  });
}

function broken(): typeof answer {
  return ({ csr }) => {
    const own = ca.sign(csr, ID, clock.now(), clock.now() + HOUR);
    const [leaf = ''] = own.chain.split(/(?<=-----END CERTIFICATE-----\n)/);
    const [, intermediate = ''] = new ThrowAwayCa('test.mesh', clock.now())
      .sign(csr, ID, clock.now(), clock.now() + HOUR)
      .chain.split(/(?<=-----END CERTIFICATE-----\n)/);
    return { ...own, chain: leaf + intermediate };
  };
}
