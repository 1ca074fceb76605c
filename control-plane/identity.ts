import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { writeFileAtomic } from '../mesh/atomic-file.ts';
import { messageOf } from '../mesh/errors.ts';
import { spiffeId } from '../mesh/spiffe-id.ts';
import { CertificateAuthority } from './ca/authority.ts';
import { JoinTokens } from './ca/join-tokens.ts';
import { Revocations } from './ca/revocations.ts';
import type { ControlPlaneConfig } from './config.ts';
import type { ControlPlaneMetrics } from './metrics.ts';
import type { Trust } from './server/peer-identity.ts';
import type { IssuedServerCertificate } from './server/server-certificate.ts';
import { reachableAddresses } from './server/tls-listener.ts';

/** Where sidecars find the roots that they are to trust at first (`caFile`), in the data directory. */
export const CA_FILE = 'ca.pem';

/** The control plane's own identity, which sidecars expect of it. */
const NAMESPACE = 'postern-system';
const SERVICE_ACCOUNT = 'control-plane';

/** Room to renew, whole seconds being what certificates count in. Not much longer than the leaves, or it would keep an old root waiting in a rotation. */
const MIN_TTL_SECONDS = 5;

/** Who is who: the authority, join tokens and revocations of one data directory, and what follows from them for the listener. */
export class Identity {
  readonly authority: CertificateAuthority;
  readonly tokens: JoinTokens;
  readonly revocations: Revocations;
  readonly caFile: string;
  readonly #config: ControlPlaneConfig;
  readonly #log: Logger;
  readonly #metrics: ControlPlaneMetrics;
  #roots: readonly X509Certificate[] = [];

  /** @throws PosternError where the data directory is not usable, in use, damaged or another trust domain's. */
  constructor(config: ControlPlaneConfig, log: Logger, metrics: ControlPlaneMetrics) {
    this.#config = config;
    this.#log = log;
    this.#metrics = metrics;
    const { dataDir, trustDomain } = config;
    const clock = () => Date.now();
    this.authority = CertificateAuthority.open({
      dataDir,
      trustDomain,
      clock,
      defaults: config.certificates,
      onWarning: (message) => log.warn(message),
    });
    try {
      this.tokens = JoinTokens.open(dataDir, clock);
      this.revocations = Revocations.open({ dataDir, clock, maxTtlSeconds: this.authority.maxTtlSeconds });
    } catch (error) {
      this.authority.close();
      throw error;
    }
    this.caFile = join(dataDir, CA_FILE);
    this.refreshRoots();
  }

  get rootCertificates(): readonly X509Certificate[] {
    return this.#roots;
  }

  /** After each change of the authority's roots. */
  refreshRoots(): void {
    this.#roots = this.authority.roots.map((pem) => new X509Certificate(pem));
    try {
      writeFileAtomic(this.caFile, this.authority.roots.join(''), { mode: 0o644 });
    } catch (error) {
      this.#metrics.storageErrors.inc();
      this.#log.error(
        { caFile: this.caFile },
        `the copy of the roots for sidecars is out of date: ${messageOf(error)}`,
      );
    }
  }

  readonly isRevoked = (subject: { readonly spiffeId: string | null; readonly serial: string }): boolean =>
    this.revocations.isRevoked(subject);

  trust(): Trust {
    return {
      roots: this.#roots,
      trustDomain: this.authority.trustDomain,
      now: Date.now(),
      isRevoked: this.isRevoked,
    };
  }

  revoked(): { readonly spiffeIds: readonly string[]; readonly serials: readonly string[] } {
    const all = this.revocations.list();
    const valuesOf = (wanted: string) => all.filter(({ kind }) => kind === wanted).map(({ value }) => value);
    return { spiffeIds: valuesOf('spiffeId'), serials: valuesOf('serial') };
  }

  issueServerCertificate(): IssuedServerCertificate {
    const { listen, serverNames, trustDomain, certificates } = this.#config;
    return this.authority.issueServer({
      spiffeId: spiffeId(trustDomain, NAMESPACE, SERVICE_ACCOUNT).uri,
      dnsNames: [...new Set(['localhost', ...serverNames])],
      ipAddresses: reachableAddresses(listen),
      ttlSeconds: Math.max(certificates.ttlSeconds, MIN_TTL_SECONDS),
    });
  }

  close(): void {
    this.authority.close();
  }
}
