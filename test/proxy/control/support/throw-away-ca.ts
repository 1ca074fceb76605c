import { type KeyObject, X509Certificate } from 'node:crypto';
import type { CertificateResponse } from '../../../../mesh/push.ts';
import {
  buildIntermediate,
  buildLeaf,
  buildRoot,
  type Issuer,
  issuerOf,
} from '../../../../mesh/x509/build-certificate.ts';
import { readCertificate } from '../../../../mesh/x509/certificate.ts';
import { readCsr } from '../../../../mesh/x509/csr.ts';
import { generateKey } from '../../../../proxy/control/svid.ts';

const HOUR = 3_600_000;

/** Root → intermediate → leaf, in memory. */
export class ThrowAwayCa {
  readonly root: string;
  readonly trustDomain: string;
  readonly #intermediate: string;
  readonly #issuer: Issuer;

  constructor(trustDomain = 'test.mesh', now = Date.now()) {
    const validity = { notBefore: now - HOUR, notAfter: now + 1000 * HOUR };
    this.trustDomain = trustDomain;
    const rootKey = generateKey();
    this.root = buildRoot({ ...validity, ...rootKey, trustDomain });
    const key = generateKey();
    const issuer = issuerOf(new X509Certificate(this.root), rootKey.privateKey);
    this.#intermediate = buildIntermediate({ ...validity, publicKey: key.publicKey, trustDomain, issuer });
    this.#issuer = issuerOf(new X509Certificate(this.#intermediate), key.privateKey);
  }

  issue(publicKey: KeyObject, spiffeId: string, notBefore: number, notAfter: number): CertificateResponse {
    const leaf = buildLeaf({ publicKey, spiffeId, notBefore, notAfter, issuer: this.#issuer });
    const { serial } = readCertificate(leaf);
    return { chain: leaf + this.#intermediate, roots: [this.root], spiffeId, notBefore, notAfter, serial };
  }

  sign(csr: string, spiffeId: string, notBefore: number, notAfter: number): CertificateResponse {
    return this.issue(readCsr(csr).publicKey, spiffeId, notBefore, notAfter);
  }

  /** Key and chain of a TLS server with the identity of `path`, e.g. `ns/postern-system/sa/control-plane`. */
  server(path: string): { key: string; cert: string } {
    const { privateKey, publicKey } = generateKey();
    const { chain } = this.issue(
      publicKey,
      `spiffe://${this.trustDomain}/${path}`,
      Date.now() - HOUR,
      Date.now() + HOUR,
    );
    return { key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), cert: chain };
  }
}
