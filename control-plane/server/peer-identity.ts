import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { parseSpiffeId, type SpiffeId } from '../../mesh/spiffe-id.ts';
import { describeCertificate } from '../../mesh/x509/certificate.ts';
import { ApiError } from '../api-error.ts';

/** What a client certificate proves. */
export interface PeerIdentity {
  readonly spiffeId: SpiffeId;
  readonly serial: string;
  /** Unix time, milliseconds. */
  readonly notAfter: number;
  readonly chain: readonly X509Certificate[];
}

/** What a certificate is judged by at one moment. */
export interface Trust {
  readonly roots: readonly X509Certificate[];
  readonly trustDomain: string;
  /** Unix time, milliseconds. */
  readonly now: number;
  isRevoked(subject: { readonly spiffeId: string | null; readonly serial: string }): boolean;
}

/** Leaf, intermediate, root, and room for a foreign hierarchy. */
const MAX_DEPTH = 6;
const EKU_CLIENT = '1.3.6.1.5.5.7.3.2';

/** The peer's chain as it was presented, leaf first; empty where it showed no certificate. */
export function presentedChain(socket: TLSSocket): readonly X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next = socket.getPeerX509Certificate();
  while (next !== undefined && chain.length < MAX_DEPTH) {
    chain.push(next);
    const issuer: X509Certificate | undefined = next.issuerCertificate;
    // Node ends the chain with undefined or with a root that is its own issuer.
    if (issuer === undefined || issuer.fingerprint256 === next.fingerprint256) break;
    next = issuer;
  }
  return chain;
}

/**
 * Judges a chain anew for each request: a connection outlives roots, revocations and certificates.
 *
 * @throws ApiError 401 `no-certificate`, 403 `untrusted`, `expired`, `revoked`
 */
export function verifyPeer(chain: readonly X509Certificate[], trust: Trust): PeerIdentity {
  const [leaf] = chain;
  if (leaf === undefined) {
    throw new ApiError(401, 'no-certificate', 'a client certificate of this mesh is needed here');
  }
  const { serial, spiffeId, notAfter } = describeCertificate(leaf);
  if (!chainsToRoot(chain, trust)) {
    throw new ApiError(403, 'untrusted', 'the client certificate does not chain to a root of this mesh');
  }
  if (!isValidAt(leaf, trust.now)) {
    throw new ApiError(403, 'expired', 'the client certificate is not valid now: join again with a join token');
  }
  const id = spiffeId === null ? null : parseSpiffeId(spiffeId);
  if (id === null || id.trustDomain !== trust.trustDomain || leaf.ca || !allowsClient(leaf)) {
    throw new ApiError(403, 'untrusted', `the client certificate shows no workload identity of ${trust.trustDomain}`);
  }
  if (trust.isRevoked({ spiffeId: id.uri, serial })) {
    throw new ApiError(403, 'revoked', 'this identity or certificate is revoked');
  }
  return { spiffeId: id, serial, notAfter, chain };
}

/** Whether a chain leads to a root that is trusted now, each link signed by a valid authority. The leaf's own validity is not looked at. */
export function chainsToRoot(chain: readonly X509Certificate[], { roots, now }: Pick<Trust, 'roots' | 'now'>): boolean {
  for (const [index, certificate] of chain.entries()) {
    if (index > 0 && !(certificate.ca && isValidAt(certificate, now))) return false;
    if (roots.some((root) => isValidAt(root, now) && isIssuedBy(certificate, root))) return true;
    const issuer = chain[index + 1];
    if (issuer === undefined || !isIssuedBy(certificate, issuer)) return false;
  }
  return false;
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isValidAt({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now < validToDate.getTime();
}

function allowsClient({ keyUsage }: X509Certificate): boolean {
  // Node calls the extended key usage `keyUsage`, as OIDs.
  return (keyUsage as readonly string[] | undefined)?.includes(EKU_CLIENT) === true;
}
