import { createHash, X509Certificate } from 'node:crypto';
import { parseSpiffeId, type SpiffeId } from '../../mesh/spiffe-id.ts';
import type { TlsSession } from '../native/tls-session.ts';

/** Who is at the other end of a mutual TLS session whose chain OpenSSL has verified. */
export interface PeerIdentity {
  readonly spiffe: SpiffeId;
  /** Without `spiffe://`: what policies call a principal. */
  readonly principal: string;
  /** Upper-case hexadecimal without leading zeros. */
  readonly serial: string;
  /** Unix time, milliseconds. */
  readonly notAfter: number;
  /** SHA-256 of the root's DER, hex; null where the session was resumed. */
  readonly root: string | null;
}

export type PeerResult =
  | { readonly ok: true; readonly peer: PeerIdentity }
  | { readonly ok: false; readonly reason: string };

/** SHA-256 of a certificate's DER, hex. */
export function fingerprint(der: Buffer): string {
  return createHash('sha256').update(der).digest('hex');
}

const refused = (reason: string): PeerResult => ({ ok: false, reason });

/**
 * Reads the SPIFFE ID of a verified leaf certificate (X509-SVID, section 5.2: exactly one URI SAN, no CA). Also for resumed sessions, whose
 * certificate may have expired since: validity is checked here against `now` (Unix milliseconds).
 */
export function readPeer(tls: TlsSession, now: number): PeerResult {
  const der = tls.peerCertificate();
  if (der === null) return refused('no certificate');
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(der);
  } catch {
    return refused('unreadable certificate');
  }
  if (certificate.ca) return refused('the certificate is that of a CA');
  // The whole of the extension must be one URI. node quotes names that contain separators, so nothing else can look like this.
  const san = /^URI:(spiffe:\/\/[A-Za-z0-9._/-]+)$/.exec(certificate.subjectAltName ?? '')?.[1];
  if (san === undefined) return refused('the certificate does not have exactly one URI SAN');
  const spiffe = parseSpiffeId(san);
  if (spiffe === null) return refused(`not an identity of a mesh: ${san}`);
  const notAfter = certificate.validToDate.getTime();
  if (now > notAfter) return refused('the certificate has expired');
  if (now < certificate.validFromDate.getTime()) return refused('the certificate is not yet valid');
  const root = tls.verifiedRoot();
  return {
    ok: true,
    peer: {
      spiffe,
      principal: spiffe.uri.slice('spiffe://'.length),
      serial: certificate.serialNumber.replace(/^0+(?=.)/, ''),
      notAfter,
      root: root === null ? null : fingerprint(root),
    },
  };
}
