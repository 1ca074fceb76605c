import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CertificateRequest, CertificateResponse } from '../../../../mesh/push.ts';
import { ControlPlaneRefusal } from '../../../../proxy/control/control-plane-request.ts';
import { Identity } from '../../../../proxy/control/identity.ts';
import type { Proof } from '../../../../proxy/control/proof.ts';
import type { Svid } from '../../../../proxy/control/svid.ts';
import { FakeClock, settle } from './fake-clock.ts';
import { recordedLog } from './quiet-log.ts';
import { ThrowAwayCa } from './throw-away-ca.ts';

export const HOUR = 3_600_000;
export const ID = 'spiffe://test.mesh/ns/shop/sa/orders';

/** The identity of one sidecar, on a clock of the test's own, against a control plane that answers as the test says. */
export class IdentityRun {
  readonly directory = mkdtempSync(join(tmpdir(), 'postern-identity-'));
  readonly tokenFile = join(this.directory, 'token');
  readonly clock = new FakeClock();
  ca = new ThrowAwayCa('test.mesh', this.clock.now());
  /** What was shown for each certificate. */
  readonly proofs: Proof[] = [];
  readonly svids: Svid[] = [];
  readonly recorded = recordedLog();
  answer: (request: CertificateRequest) => CertificateResponse = this.sign();
  readonly identity: Identity;
  /** With what it failed for good, if anything. */
  ended: Promise<unknown> = Promise.resolve();

  constructor(kind: 'joinTokenFile' | 'serviceAccountTokenFile', token: string) {
    writeFileSync(this.tokenFile, token);
    this.identity = new Identity({
      workload: { namespace: 'shop', serviceAccount: 'orders' },
      joinTokenFile: null,
      [kind]: this.tokenFile,
      ttlSeconds: null,
      authority: {
        trustDomain: async () => 'test.mesh',
        requestCertificate: async (request, proof) => {
          this.proofs.push(proof);
          return this.answer(request);
        },
      },
      trust: { roots: () => [this.ca.root], setRoots: () => undefined },
      clock: this.clock,
      log: this.recorded.log,
      onSvid: (svid) => this.svids.push(svid),
    });
  }

  async start(): Promise<void> {
    this.ended = this.identity.run().catch((error: unknown) => error);
    await settle();
  }

  /** Resolves with what it failed with, if anything. */
  async end(): Promise<unknown> {
    this.identity.close();
    const failure = await this.ended;
    rmSync(this.directory, { recursive: true });
    return failure;
  }

  /** An answer: a good certificate for an hour. */
  sign(id: string = ID): (request: CertificateRequest) => CertificateResponse {
    return ({ csr }) => this.ca.sign(csr, id, this.clock.now(), this.clock.now() + HOUR);
  }
}

/** An answer: the control plane refuses. */
export const refuse = (status: number, code: string, message: string) => (): never => {
  throw new ControlPlaneRefusal(status, code, message);
};
