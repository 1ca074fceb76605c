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
  /** SHA-256 of the leaf's DER, hex. */
  readonly fingerprint: string;
  /** The leaf's subject (RFC 2253); mostly empty. */
  readonly subject: string;
}

export type PeerResult =
  | { readonly ok: true; readonly peer: PeerIdentity }
  | { readonly ok: false; readonly reason: string };

const refused = (reason: string): PeerResult => ({ ok: false, reason });

/**
 * Reads the SPIFFE ID of a verified leaf certificate (X509-SVID, section 5.2: exactly one URI SAN, no CA). Also for resumed sessions, whose
 * certificate may have expired since: validity is checked here against `now` (Unix milliseconds).
 */
export function readPeer(tls: TlsSession, now: number): PeerResult {
  const certificate = tls.peerCertificate();
  if (certificate === null) return refused('no certificate');
  if (certificate.isAuthority) return refused('the certificate is that of a CA');
  const [uri, ...others] = certificate.uris;
  if (uri === undefined || others.length > 0 || certificate.names !== 1) {
    return refused('the certificate does not have exactly one URI SAN');
  }
  const spiffe = parseSpiffeId(uri);
  if (spiffe === null) return refused('the URI SAN is not an identity of a mesh');
  const { notBefore, notAfter, serial, fingerprint, subject } = certificate;
  // Written so that a time that cannot be read is no time to trust.
  if (!(now <= notAfter)) return refused('the certificate has expired');
  if (!(now >= notBefore)) return refused('the certificate is not yet valid');
  return {
    ok: true,
    peer: {
      spiffe,
      principal: spiffe.uri.slice('spiffe://'.length),
      serial,
      notAfter,
      root: tls.verifiedRoot(),
      fingerprint,
      subject,
    },
  };
}
