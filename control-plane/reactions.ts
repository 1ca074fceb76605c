import type { Logger } from 'pino';
import type { KeySetKeeper } from './jwks/key-set-keeper.ts';
import { wantedSources } from './jwks/wanted-sources.ts';
import type { ControlPlaneMetrics } from './metrics.ts';
import type { Platform } from './platform.ts';
import type { ProblemLog } from './problem-log.ts';
import type { Pusher } from './push/pusher.ts';
import type { MeshRegistry } from './registry/mesh-registry.ts';
import { nameOf, type Registrations } from './registry/registrations.ts';
import { chainsToRoot } from './server/peer-identity.ts';
import type { ServerCertificate } from './server/server-certificate.ts';
import type { ServerIdentity } from './server-identity.ts';
import type { SourceChange } from './source/manifest-source.ts';

export interface ReactionParts {
  readonly platform: Platform;
  readonly identity: ServerIdentity;
  readonly certificate: ServerCertificate;
  readonly keySets: KeySetKeeper;
  readonly registrations: Registrations;
  readonly registry: MeshRegistry;
  readonly pusher: Pusher;
  readonly complaints: ProblemLog;
  readonly metrics: ControlPlaneMetrics;
  readonly log: Logger;
}

/** What follows everywhere else when the source, the roots or the revocations change. */
export class Reactions {
  readonly #parts: ReactionParts;
  /** Whether the source could not be read last time. */
  #faulty = false;
  /** Takes the listeners off. */
  readonly #following = new DisposableStack();

  constructor(parts: ReactionParts) {
    this.#parts = parts;
  }

  /** Starts the source, takes in what it has, and follows all three from then on. @throws what the start of the source throws */
  async start(): Promise<void> {
    const { platform, identity, keySets } = this.#parts;
    const { source, authority, revocations } = platform;
    await source.start((change) => this.#sourceChanged(change));
    identity.refreshRevoked();
    platform.sourceChanged();
    this.#describeSource();
    keySets.want(wantedSources(source.manifests));
    this.#following.defer(authority.onRootsChanged(() => this.#rootsChanged()));
    this.#following.defer(revocations.onChange(() => this.#revocationsChanged()));
  }

  /** The source itself ends with the platform. Safe to call twice. */
  stop(): void {
    this.#following.dispose();
  }

  #sourceChanged({ manifests, noticedAt }: SourceChange): void {
    const { platform, identity, keySets, registry, log } = this.#parts;
    const { source } = platform;
    this.#describeSource();
    if (manifests) {
      log.info({ objects: source.manifests.length }, 'the manifests have changed');
      keySets.want(wantedSources(source.manifests));
      if (identity.refreshRevoked()) this.#revocationsChanged();
      registry.changed(noticedAt);
    }
    platform.sourceChanged();
  }

  #describeSource(): void {
    const { platform, complaints, metrics, log } = this.#parts;
    const { fault, problems, manifests } = platform.source;
    complaints.set('source', problems);
    if (fault !== null) log.error({ code: fault.code }, `${fault.message}; what was read before stays in force`);
    else if (this.#faulty) log.info('the manifests can be read again');
    this.#faulty = fault !== null;
    metrics.sourceAvailable.set(fault === null ? 1 : 0);
    metrics.manifestObjects.reset();
    for (const { kind } of manifests) metrics.manifestObjects.inc({ kind });
  }

  #rootsChanged(): void {
    const { platform, identity, certificate, registry, pusher } = this.#parts;
    identity.refreshRoots();
    platform.publishRoots();
    certificate.renew();
    registry.changed();
    const { rootCertificates: roots } = identity;
    for (const stream of pusher.streams) {
      if (!chainsToRoot(stream.certificate.chain, { roots, now: Date.now() })) pusher.close(stream, 'untrusted');
    }
  }

  #revocationsChanged(): void {
    const { identity, registrations, registry, pusher } = this.#parts;
    for (const stream of pusher.streams) {
      const { identity: spiffeId, certificate, name } = stream;
      if (!identity.isRevoked({ spiffeId, serial: certificate.serial })) continue;
      registrations.forget((one) => one.identity === spiffeId && nameOf(one) === name);
      pusher.close(stream, 'revoked');
    }
    registrations.forget((one) => identity.isRevokedIdentity(one.identity));
    registry.changed();
  }
}
