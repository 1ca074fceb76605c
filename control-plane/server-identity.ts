import { X509Certificate } from 'node:crypto';
import { controlPlaneIdentity } from './ca/control-plane-identity.ts';
import type { ControlPlaneConfig } from './config.ts';
import type { Platform } from './platform.ts';
import { type RevokedSubjects, revokedByManifests } from './registry/revoked.ts';
import type { Trust } from './server/peer-identity.ts';
import type { IssuedServerCertificate } from './server/server-certificate.ts';
import { reachableAddresses } from './server/tls-listener.ts';

/** Room to renew, whole seconds being what certificates count in. Not much longer than the leaves, or it would keep an old root waiting in a rotation. */
const MIN_TTL_SECONDS = 5;
/** No certificate has this serial: only the identity is asked about. */
const NO_SERIAL = '';

/** What the control plane shows to its peers, and what it judges theirs by. */
export class ServerIdentity {
  readonly #config: ControlPlaneConfig;
  readonly #platform: Platform;
  #roots: readonly X509Certificate[] = [];
  /** Asked for each connection, of thousands perhaps. */
  #declared: { readonly spiffeIds: ReadonlySet<string>; readonly serials: ReadonlySet<string> } = {
    spiffeIds: new Set(),
    serials: new Set(),
  };

  constructor(config: ControlPlaneConfig, platform: Platform) {
    this.#config = config;
    this.#platform = platform;
    this.refreshRoots();
  }

  get rootCertificates(): readonly X509Certificate[] {
    return this.#roots;
  }

  /** After each change of the authority's roots. */
  refreshRoots(): void {
    this.#roots = this.#platform.authority.roots.map((pem) => new X509Certificate(pem));
  }

  /** After each change of the source. Whether anything is revoked now that was not, or the other way round. */
  refreshRevoked(): boolean {
    const before = this.#declared;
    const { spiffeIds, serials } = revokedByManifests(this.#platform.source.manifests);
    this.#declared = { spiffeIds: new Set(spiffeIds), serials: new Set(serials) };
    return !(isSame(before.spiffeIds, this.#declared.spiffeIds) && isSame(before.serials, this.#declared.serials));
  }

  /** By command or by manifest. */
  readonly isRevoked = (subject: { readonly spiffeId: string | null; readonly serial: string }): boolean => {
    const { spiffeId, serial } = subject;
    const { spiffeIds, serials } = this.#declared;
    if (serials.has(serial) || (spiffeId !== null && spiffeIds.has(spiffeId))) return true;
    return this.#platform.revocations.isRevoked(subject);
  };

  readonly isRevokedIdentity = (spiffeId: string): boolean => this.isRevoked({ spiffeId, serial: NO_SERIAL });

  /** What the platform's list revokes; what manifests revoke is in the snapshot already. */
  revoked(): RevokedSubjects {
    const all = this.#platform.revocations.list();
    const valuesOf = (wanted: string) => all.filter(({ kind }) => kind === wanted).map(({ value }) => value);
    return { spiffeIds: valuesOf('spiffeId'), serials: valuesOf('serial') };
  }

  trust(): Trust {
    const { trustDomain } = this.#platform.authority;
    return { roots: this.#roots, trustDomain, now: Date.now(), isRevoked: this.isRevoked };
  }

  issueServerCertificate(): IssuedServerCertificate {
    const { listen, serverNames, trustDomain, certificates } = this.#config;
    return this.#platform.authority.issueServer({
      spiffeId: controlPlaneIdentity(trustDomain).uri,
      dnsNames: [...new Set(['localhost', ...serverNames, ...this.#platform.serverNames])],
      ipAddresses: reachableAddresses(listen),
      ttlSeconds: Math.max(certificates.ttlSeconds, MIN_TTL_SECONDS),
    });
  }
}

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && a.isSubsetOf(b);
}
