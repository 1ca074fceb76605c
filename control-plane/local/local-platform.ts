import { join } from 'node:path';
import type { Logger } from 'pino';
import { writeFileAtomic } from '../../mesh/atomic-file.ts';
import { messageOf } from '../../mesh/errors.ts';
import { addressSet } from '../addresses.ts';
import { CertificateAuthority } from '../ca/authority.ts';
import { JoinTokens } from '../ca/join-tokens.ts';
import { Revocations } from '../ca/revocations.ts';
import type { ControlPlaneConfig } from '../config.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import type { BearerTokens, Platform, RunningControlPlane, WorkloadAdmission } from '../platform.ts';
import type { RegisteredWorkload } from '../registry/registrations.ts';
import { JoinTokenAdmission } from '../server/join-token-admission.ts';
import { JoinTokenProof } from '../server/join-token-proof.ts';
import { RegistrationStore } from '../server/registration-store.ts';
import { DirectorySource } from '../source/directory.ts';
import { LastGoodFile } from '../source/last-good.ts';
import type { ManifestSource } from '../source/manifest-source.ts';

/** Where sidecars find the roots that they are to trust at first (`caFile`), in the data directory. */
const CA_FILE = 'ca.pem';

/** One machine: a folder of manifests; CA, join tokens and revocations in the data directory, which this process alone uses. */
export class LocalPlatform implements Platform {
  readonly source: ManifestSource;
  readonly authority: CertificateAuthority;
  readonly isNew: boolean;
  readonly revocations: Revocations;
  readonly tokens: BearerTokens;
  readonly admission: WorkloadAdmission;
  readonly joinTokens: JoinTokens;
  readonly serverNames: readonly string[] = [];
  readonly #store: RegistrationStore;
  readonly #caFile: string;
  readonly #log: Logger;
  readonly #metrics: ControlPlaneMetrics;
  readonly #life = new AbortController();

  /** @throws PosternError where the data directory is not usable, in use, damaged or another trust domain's. */
  constructor(config: ControlPlaneConfig, log: Logger, metrics: ControlPlaneMetrics) {
    const { dataDir, trustDomain, certificates, manifests } = config;
    const clock = () => Date.now();
    this.#log = log;
    this.#metrics = metrics;
    this.#caFile = join(dataDir, CA_FILE);
    this.authority = CertificateAuthority.open({
      dataDir,
      trustDomain,
      clock,
      defaults: certificates,
      onWarning: (message) => log.warn(message),
    });
    try {
      this.joinTokens = JoinTokens.open(dataDir, clock);
      this.revocations = Revocations.open({ dataDir, clock, maxTtlSeconds: this.authority.maxTtlSeconds });
      this.#store = new RegistrationStore(dataDir, trustDomain);
    } catch (error) {
      this.authority.close();
      throw error;
    }
    this.isNew = this.authority.isNew;
    this.tokens = new JoinTokenProof(this.joinTokens);
    const trustedAddresses = addressSet(config.trustedAddresses);
    if (trustedAddresses === null) throw new TypeError('trustedAddresses were checked when the configuration was read');
    this.admission = new JoinTokenAdmission({ store: this.#store, trustedAddresses });
    this.source = new DirectorySource({ directory: manifests, log, lastGood: new LastGoodFile(dataDir, log) });
    this.publishRoots();
  }

  get remembered(): readonly RegisteredWorkload[] {
    return this.#store.remembered;
  }

  renewsByCertificate(): boolean {
    return true;
  }

  saveWorkloads(workloads: readonly RegisteredWorkload[]): void {
    this.#store.saveWorkloads(workloads);
  }

  bindLabels(identity: string, labels: { readonly [key: string]: string }): void {
    this.#store.bindLabels(identity, labels);
  }

  publishRoots(): void {
    try {
      writeFileAtomic(this.#caFile, this.authority.roots.join(''), { mode: 0o644 });
    } catch (error) {
      this.#metrics.storageErrors.inc();
      const message = `the copy of the roots for sidecars is out of date: ${messageOf(error)}`;
      this.#log.error({ caFile: this.#caFile }, message);
    }
  }

  sourceChanged(): void {}

  useCredentials(): void {}

  routes(): Record<string, never> {
    return {};
  }

  readonly awaitTrustElsewhere = () => Promise.resolve({ connected: 0, missing: [] });

  leader(): null {
    return null;
  }

  sidecarsElsewhere() {
    return Promise.resolve({ sidecars: [], missing: [] });
  }

  start(plane: RunningControlPlane): Promise<void> {
    plane.lead(this.#life.signal);
    return Promise.resolve();
  }

  describe(): { readonly [fact: string]: string } {
    return { caFile: this.#caFile };
  }

  async close(): Promise<void> {
    this.#life.abort();
    await this.source.stop();
    this.authority.close();
  }
}
