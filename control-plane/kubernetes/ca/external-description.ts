import { readCertificate } from '../../../mesh/x509/certificate.ts';
import { describeCertificate, type RootDescription } from '../../ca/authority-description.ts';
import type { RotationPhase } from '../../ca/authority-state.ts';
import { isoTime } from '../../ca/authority-steps.ts';
import type { ExternalIssuer } from './external-issuer.ts';
import type { TrustState } from './trust-state.ts';

/** What `postern ca show` prints of the roots of an external CA. */
export function describeRoots(facts: {
  /** PEM, the issuing one first. */
  readonly roots: readonly string[];
  /** Fingerprint of the root that issues. */
  readonly issuing: string;
  /** End of the last leaf of it, Unix time in milliseconds. */
  readonly leavesEnd: number;
  readonly state: TrustState | null;
  /** By fingerprint of the root. */
  readonly issuers: ReadonlyMap<string, ExternalIssuer>;
}): RootDescription[] {
  return facts.roots.map((pem): RootDescription => {
    const certificate = readCertificate(pem);
    const { fingerprint } = certificate;
    const isIssuing = fingerprint === facts.issuing;
    const until = facts.state?.roots.find((root) => root.fingerprint === fingerprint)?.trustedUntil ?? null;
    const end = isIssuing ? facts.leavesEnd : until;
    const issuer = facts.issuers.get(fingerprint);
    return {
      role: isIssuing ? 'issuing' : until === null ? 'next' : 'retiring',
      ...describeCertificate(certificate),
      intermediate: issuer === undefined ? null : describeCertificate(issuer.certificate),
      leavesExpireBy: end === null ? null : isoTime(end),
      pem,
    };
  });
}

/** How far a change of the root is, in the words of a rotation. */
export function phaseOf(roots: readonly RootDescription[]): RotationPhase {
  const roles = roots.map(({ role }) => role);
  if (roles.includes('next')) return 'begun';
  return roles.includes('retiring') ? 'activated' : 'none';
}
