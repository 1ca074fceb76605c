import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { CertificateRequest, CertificateResponse } from '../../../mesh/push.ts';
import { ControlPlaneRefusal } from '../../../proxy/control/control-plane-request.ts';
import { Identity } from '../../../proxy/control/identity.ts';
import type { Proof } from '../../../proxy/control/proof.ts';
import type { Svid } from '../../../proxy/control/svid.ts';
import { FakeClock, settle } from './support/fake-clock.ts';
import { recordedLog } from './support/quiet-log.ts';
import { ThrowAwayCa } from './support/throw-away-ca.ts';

const HOUR = 3_600_000;
const ID = 'spiffe://test.mesh/ns/shop/sa/orders';

let directory: string;
let file: string;
let clock: FakeClock;
let ca: ThrowAwayCa;
let proofs: Proof[];
let svids: Svid[];
let identity: Identity;
let answer: (request: CertificateRequest) => CertificateResponse;
let recorded: ReturnType<typeof recordedLog>;
let ended: Promise<unknown>;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'postern-token-'));
  file = join(directory, 'token');
  writeFileSync(file, 'first.jwt.token\n');
  clock = new FakeClock();
  ca = new ThrowAwayCa('test.mesh', clock.now());
  proofs = [];
  svids = [];
  recorded = recordedLog();
  answer = ({ csr }) => ca.sign(csr, ID, clock.now(), clock.now() + HOUR);
});

afterEach(async () => {
  identity.close();
  expect(await ended).toBeUndefined();
  for (const line of recorded.lines) expect(JSON.stringify(line)).not.toContain('jwt');
  rmSync(directory, { recursive: true });
});

async function run(): Promise<void> {
  identity = new Identity({
    workload: { namespace: 'shop', serviceAccount: 'orders' },
    joinTokenFile: null,
    serviceAccountTokenFile: file,
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
  throw new ControlPlaneRefusal(status, code, 'no pod of that name yet');
};

it('shows the token as it is then for every certificate, and beside it the one in hand', async () => {
  await run();
  writeFileSync(file, 'second.jwt.token\n');
  await clock.advance(HOUR * 0.6);
  expect(proofs).toEqual([{ token: 'first.jwt.token' }, { token: 'second.jwt.token', svid: svids[0] }]);
  expect(svids).toHaveLength(2);
});

it.each([
  [401, 'token-refused'],
  [403, 'pod-mismatch'],
  [503, 'token-unverified'],
])('tries on after a refusal with %i, and says why it has no certificate', async (status, code) => {
  answer = refuse(status, code);
  await run();
  await clock.advance(5_000);
  expect(proofs.length).toBeGreaterThan(3);
  expect(identity.failure).toContain('no pod of that name yet');
  answer = ({ csr }) => ca.sign(csr, ID, clock.now(), clock.now() + HOUR);
  await clock.advance(20_000);
  expect(svids).toHaveLength(1);
  expect(identity.failure).toBeNull();
});

it('keeps the certificate in use while its renewal is refused, and tries without it in between', async () => {
  await run();
  answer = refuse(401, 'certificate-refused');
  await clock.advance(HOUR * 0.7);
  expect(identity.current).toBe(svids[0]);
  expect(identity.valid).toBe(true);
  const shown = proofs.slice(1, 5).map((proof) => 'svid' in proof);
  expect(shown).toEqual([true, false, true, false]);
});

it('shows no certificate that has expired', async () => {
  await run();
  answer = refuse(503, 'token-unverified');
  await clock.advance(HOUR * 1.5);
  expect(proofs.at(-1)).toEqual({ token: 'first.jwt.token' });
});

it('waits for a token that is not there yet', async () => {
  rmSync(file);
  await run();
  await clock.advance(5_000);
  expect(identity.failure).toContain('ENOENT');
  expect(proofs).toEqual([]);
  writeFileSync(file, 'late.jwt.token');
  await clock.advance(20_000);
  expect(svids).toHaveLength(1);
});

it.each([
  ['nothing', ''],
  ['two lines', 'a.jwt\nb.jwt'],
  ['more than a token can be', 'j'.repeat(20_000)],
])('waits while the file holds %s, without telling it', async (_, content) => {
  writeFileSync(file, content);
  await run();
  await clock.advance(1_000);
  expect(proofs).toEqual([]);
  expect(identity.failure).toBe(`${file} does not hold a service account token (one line)`);
});
