import type { Certificate } from '../../mesh/x509/certificate.ts';
import type { AuthorityState, RotationPhase } from './authority-state.ts';
import type { Generation } from './generation.ts';

/** Times are ISO 8601, UTC. */
export interface CertificateDescription {
  readonly serial: string;
  readonly fingerprint: string;
  readonly notBefore: string;
  readonly notAfter: string;
}

export interface RootDescription extends CertificateDescription {
  /** `issuing`, `next` (trusted, will issue) or `retiring` (trusted until its leaves have expired). */
  readonly role: 'issuing' | 'next' | 'retiring';
  /** The one that issues; null where its key is not ours to hold any more. */
  readonly intermediate: CertificateDescription | null;
  /** No leaf of it is valid after this; null where it has issued none. */
  readonly leavesExpireBy: string | null;
  readonly pem: string;
}

/** No secrets. */
export interface AuthorityDescription {
  readonly trustDomain: string;
  readonly rotation: RotationPhase;
  readonly leafTtlSeconds: number;
  /** The issuing one first. */
  readonly roots: readonly RootDescription[];
}

export function describeGenerations(
  state: AuthorityState,
  generations: readonly Generation[],
  latestLeafEnd: number,
  leafTtlSeconds: number,
): AuthorityDescription {
  const second = state.rotation === 'activated' ? 'retiring' : 'next';
  const roots = generations.map((generation, index): RootDescription => {
    const expiry = index === 0 ? latestLeafEnd : (state.generations[index]?.leavesExpireBy ?? 0);
    return {
      role: index === 0 ? 'issuing' : second,
      ...describeCertificate(generation.root.certificate),
      intermediate: describeCertificate(generation.intermediate.certificate),
      leavesExpireBy: expiry === 0 ? null : new Date(expiry).toISOString(),
      pem: generation.root.pem,
    };
  });
  return { trustDomain: state.trustDomain, rotation: state.rotation, leafTtlSeconds, roots };
}

export const describeCertificate = ({
  serial,
  fingerprint,
  notBefore,
  notAfter,
}: Certificate): CertificateDescription => ({
  serial,
  fingerprint,
  notBefore: new Date(notBefore).toISOString(),
  notAfter: new Date(notAfter).toISOString(),
});
