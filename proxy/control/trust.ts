import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { PeerCertificate } from 'node:tls';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { parseSpiffeId } from '../../mesh/spiffe-id.ts';
import { describeCertificate, readCertificates } from '../../mesh/x509/certificate.ts';

/**
 * The roots by which the sidecar knows its control plane: those of `caFile` until the control plane has sent its own, then those alone, so that a
 * root that was rotated out is no longer believed. An operator who changes the file in the meantime overrules that: its roots then count too.
 */
export class ControlPlaneTrust {
  readonly #caFile: string;
  readonly #atStart: string;
  #pushed: readonly string[] = [];
  #trustDomain: string | null;

  /** @throws PosternError ERR_CA_FILE where the file is missing or holds no certificates. */
  constructor(caFile: string, trustDomain: string | null) {
    this.#caFile = caFile;
    this.#trustDomain = trustDomain;
    this.#atStart = readRoots(caFile);
  }

  /** Null until the first connection, unless it is configured. */
  get trustDomain(): string | null {
    return this.#trustDomain;
  }

  setRoots(roots: readonly string[]): void {
    if (roots.length > 0) this.#pushed = roots;
  }

  /** PEM; reads the file again. */
  roots(): readonly string[] {
    if (this.#pushed.length === 0) return [this.#currentFile()];
    const file = this.#currentFile();
    return file === this.#atStart ? this.#pushed : [...this.#pushed, file];
  }

  /** For `checkServerIdentity` of tls.connect, which has checked chain and validity. The first control plane that `caFile` vouches for fixes the trust domain. */
  checkServer(certificate: PeerCertificate): Error | undefined {
    const found = describeCertificate(new X509Certificate(certificate.raw)).spiffeId;
    const id = found === null ? null : parseSpiffeId(found);
    const expected = `spiffe://${this.#trustDomain ?? '<trust domain>'}/ns/postern-system/sa/control-plane`;
    if (
      id === null ||
      id.namespace !== 'postern-system' ||
      id.serviceAccount !== 'control-plane' ||
      !this.#accepts(id.trustDomain)
    ) {
      return new PosternError(
        'ERR_CONTROL_PLANE_IDENTITY',
        `the server shows the identity ${found ?? 'none'} where ${expected} was expected: check controlPlane.address and trustDomain`,
      );
    }
    this.#trustDomain = id.trustDomain;
    return undefined;
  }

  #accepts(trustDomain: string): boolean {
    return this.#trustDomain === null || this.#trustDomain === trustDomain;
  }

  #currentFile(): string {
    try {
      return readRoots(this.#caFile);
    } catch {
      // A file that is being replaced, or gone: what it held at start still counts.
      return this.#atStart;
    }
  }
}

function readRoots(file: string): string {
  try {
    const pem = readFileSync(file, 'utf8');
    readCertificates(pem);
    return pem;
  } catch (error) {
    throw new PosternError(
      'ERR_CA_FILE',
      `controlPlane.caFile ${file}: ${messageOf(error)}; it must hold the control plane's root certificates`,
      {
        cause: error,
        exitCode: EXIT.config,
      },
    );
  }
}
