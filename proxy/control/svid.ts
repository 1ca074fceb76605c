import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { PosternError } from '../../mesh/errors.ts';
import type { CertificateResponse } from '../../mesh/push.ts';
import { type Certificate, endsInRoot, readCertificate, readCertificates } from '../../mesh/x509/certificate.ts';

/** The workload's X.509-SVID with its key, which exists in memory only and never in a message of this file. */
export interface Svid {
  readonly spiffeId: string;
  /** PEM: leaf first, root left out. */
  readonly chain: string;
  /** PKCS #8, PEM. */
  readonly privateKey: string;
  readonly serial: string;
  /** Unix time by the CA's clock, milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Unix time by this machine's clock when it arrived. */
  readonly receivedAt: number;
}

export interface SvidKey {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export const generateKey = (): SvidKey => generateKeyPairSync('ec', { namedCurve: 'P-256' });

/**
 * Makes an SVID of what the CA answered, after the checks that peers would make: the key is ours, the SPIFFE ID is ours, each certificate signs
 * the one before it and a trusted root signs the last. Validity is not held against this machine's clock, which may be the one that is wrong.
 *
 * @throws PosternError ERR_CERTIFICATE_REFUSED.
 */
export function acceptSvid(
  response: CertificateResponse,
  expected: {
    readonly key: SvidKey;
    readonly spiffeId: string;
    readonly roots: readonly string[];
    readonly receivedAt: number;
  },
): Svid {
  const chain = readCertificates(response.chain);
  const [leaf] = chain;
  if (leaf === undefined || leaf.isAuthority || !leaf.x509.checkPrivateKey(expected.key.privateKey)) {
    throw refused('it is not for the key that was generated here');
  }
  if (leaf.spiffeId !== expected.spiffeId) {
    throw refused(
      `it shows ${leaf.spiffeId ?? 'no SPIFFE ID'}, and this workload is ${expected.spiffeId}: check workload in proxy.yaml and the join token`,
    );
  }
  if (!chain.every((certificate, index) => isSignedByNext(certificate, chain[index + 1])))
    throw refused('its chain is broken');
  if (!expected.roots.some((bundle) => rootsOf(bundle).some((root) => endsInRoot(response.chain, root)))) {
    throw refused('its chain does not end in a trusted root');
  }
  return {
    spiffeId: leaf.spiffeId,
    chain: response.chain,
    privateKey: expected.key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    serial: leaf.serial,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    receivedAt: expected.receivedAt,
  };
}

/** Whether the chain hangs on the root that the mesh prefers now, the first of the bundle; an empty or unreadable bundle has no preference. */
export function hangsOn(svid: Svid, roots: readonly string[]): boolean {
  const [preferred] = roots;
  if (preferred === undefined) return true;
  try {
    return endsInRoot(svid.chain, readCertificate(preferred).x509.toString());
  } catch {
    return true;
  }
}

function isSignedByNext(certificate: Certificate, next: Certificate | undefined): boolean {
  if (next === undefined) return true;
  return next.isAuthority && certificate.x509.checkIssued(next.x509) && certificate.x509.verify(next.x509.publicKey);
}

const rootsOf = (bundle: string): string[] => readCertificates(bundle).map(({ x509 }) => x509.toString());

const refused = (why: string): PosternError =>
  new PosternError('ERR_CERTIFICATE_REFUSED', `the certificate that the control plane issued is refused: ${why}`);
