import { randomBytes } from 'node:crypto';
import type { BlockList } from 'node:net';
import type { Logger } from 'pino';
import { messageOf } from '../mesh/errors.ts';
import { addressSet, formatListenAddress } from './addresses.ts';
import { AdminServer } from './admin/admin-server.ts';
import { type ControlPlaneStatus, sidecarStatus } from './admin/status.ts';
import { AdminSocket } from './admin-socket.ts';
import { administrationOf } from './ca/administration.ts';
import { RootRotation } from './ca/rotation.ts';
import { type ControlPlaneConfig, FIXED } from './config.ts';
import { Identity } from './identity.ts';
import { AddressGuard } from './jwks/address-guard.ts';
import { fetchKeySet } from './jwks/fetch-key-set.ts';
import { KeySetFile } from './jwks/key-set-file.ts';
import { KeySetKeeper } from './jwks/key-set-keeper.ts';
import { wantedSources } from './jwks/wanted-sources.ts';
import { ControlPlaneMetrics } from './metrics.ts';
import { ProblemLog } from './problem-log.ts';
import { type CloseReason, Pusher } from './push/pusher.ts';
import type { SidecarStream } from './push/sidecar-stream.ts';
import { MeshRegistry } from './registry/mesh-registry.ts';
import { readWorkloadEntry } from './registry/objects.ts';
import { Registrations } from './registry/registrations.ts';
import type { RegistryInputs } from './registry/snapshot.ts';
import { Api } from './server/api.ts';
import { certificatesHandler } from './server/certificates.ts';
import { chainsToRoot } from './server/peer-identity.ts';
import { RateLimit } from './server/rate-limit.ts';
import { RegistrationStore } from './server/registration-store.ts';
import { ServerCertificate } from './server/server-certificate.ts';
import { ackHandler, streamHandler, trustBundleHandler } from './server/streams.ts';
import { TlsListener } from './server/tls-listener.ts';
import type { ManifestSource, SourceChange } from './source/manifest-source.ts';

interface Parts {
  readonly config: ControlPlaneConfig;
  readonly source: ManifestSource;
  readonly log: Logger;
  readonly metrics: ControlPlaneMetrics;
  readonly identity: Identity;
}

/** One running control plane: composes the rooms, owns what they need, and passes on what changes in one to the others. */
export class ControlPlane {
  readonly #config: ControlPlaneConfig;
  readonly #log: Logger;
  readonly #metrics: ControlPlaneMetrics;
  readonly #startedAt = new Date();
  readonly #source: ManifestSource;
  readonly #problems: ProblemLog;
  readonly #identity: Identity;
  readonly #store: RegistrationStore;
  readonly #keySets: KeySetKeeper;
  readonly #registrations: Registrations;
  readonly #registry: MeshRegistry;
  readonly #pusher: Pusher;
  /** Workloads have come or gone since their list was saved. */
  #unsaved = false;
  readonly #listener: TlsListener;
  readonly #certificate: ServerCertificate;
  readonly #rotation: RootRotation;
  readonly #admin: AdminServer;
  /** What is to be undone, last first. */
  readonly #owned = new AsyncDisposableStack();
  /** Whether the source could not be read last time. */
  #faulty = false;
  #state: 'starting' | 'ready' | 'stopping' = 'starting';

  /** Nothing listens yet. @throws PosternError where what is stored is not usable. */
  private constructor(parts: Parts) {
    const { config, source, log, metrics, identity } = parts;
    this.#config = config;
    this.#log = log;
    this.#source = source;
    this.#metrics = metrics;
    this.#identity = identity;
    this.#owned.defer(() => identity.close());
    this.#problems = new ProblemLog(log, metrics);
    this.#store = new RegistrationStore(config.dataDir, config.trustDomain);
    this.#keySets = this.#keySetKeeper();
    this.#registry = new MeshRegistry({
      inputs: () => this.#inputs(),
      publish: (snapshot, changedAt) => {
        // Whom others are told of is known after a crash, too: or a restart would take their endpoints away for a moment.
        if (this.#unsaved) this.#saveWorkloads();
        this.#pusher.publish(snapshot, changedAt);
      },
      onProblems: (problems) => this.#problems.set('mesh', problems),
      metrics: this.#metrics,
      log,
    });
    this.#registrations = new Registrations({
      entries: () => source.manifests.filter(({ kind }) => kind === 'WorkloadEntry').map(readWorkloadEntry),
      remembered: this.#store.remembered.filter((one) => !this.#isRevokedIdentity(one.identity)),
      onChange: () => this.#workloadsChanged(),
    });
    this.#pusher = new Pusher({
      epoch: randomBytes(6).toString('hex'),
      metrics: this.#metrics,
      log,
      onClosed: (stream, reason) => this.#streamClosed(stream, reason),
    });
    this.#certificate = new ServerCertificate({
      issue: () => this.#identity.issueServerCertificate(),
      onRenewed: (credentials) => {
        this.#metrics.serverCertificateExpiry.set(credentials.notAfter / 1000);
        this.#listener.renew(credentials, this.#identity.authority.roots);
      },
      onFailed: (error) => log.error(`the control plane's own certificate could not be renewed: ${messageOf(error)}`),
    });
    this.#metrics.serverCertificateExpiry.set(this.#certificate.current.notAfter / 1000);
    this.#listener = new TlsListener({
      listen: config.listen,
      credentials: this.#certificate.current,
      roots: this.#identity.authority.roots,
      handle: this.#api().handle,
    });
    this.#rotation = new RootRotation({
      authority: this.#identity.authority,
      clock: () => Date.now(),
      awaitAcknowledgement: (roots, signal) => this.#pusher.awaitTrust(roots, signal),
      onNotice: (message) => log.info(message),
    });
    this.#admin = new AdminServer({
      listen: config.adminListen,
      metrics: this.#metrics.registry,
      status: () => this.status(),
      notReady: () => (this.#state === 'ready' ? null : this.#state),
      onError: (error) => log.error({ err: error }, 'a request of the admin port failed'),
    });
  }

  /**
   * @throws PosternError where it cannot start: the message says what to do. Nothing is left behind then.
   */
  static async start(config: ControlPlaneConfig, source: ManifestSource, log: Logger): Promise<ControlPlane> {
    const metrics = new ControlPlaneMetrics();
    const identity = new Identity(config, log, metrics);
    let plane: ControlPlane;
    try {
      plane = new ControlPlane({ config, source, log, metrics, identity });
    } catch (error) {
      identity.close();
      throw error;
    }
    try {
      await plane.#start();
    } catch (error) {
      await plane.stop();
      throw error;
    }
    return plane;
  }

  get port(): number {
    return this.#listener.port;
  }

  get adminPort(): number {
    return this.#admin.port;
  }

  status(): ControlPlaneStatus {
    return {
      trustDomain: this.#config.trustDomain,
      startedAt: this.#startedAt.toISOString(),
      sidecars: this.#pusher.streams.map(sidecarStatus).sort((a, b) => (a.workload < b.workload ? -1 : 1)),
      manifests: {
        objects: this.#source.manifests.length,
        fault: this.#source.fault?.message ?? null,
        problems: this.#problems.texts.map(([text]) => text),
      },
    };
  }

  /** Says goodbye to the sidecars and frees everything. Safe to call twice. */
  async stop(): Promise<void> {
    if (this.#state === 'stopping') return;
    // Before the streams end: these are the workloads to believe in after a restart.
    if (this.#state === 'ready') this.#saveWorkloads();
    this.#state = 'stopping';
    this.#registry.stop();
    this.#keySets.stop();
    this.#pusher.stop();
    this.#registrations.stop();
    this.#rotation.close();
    this.#certificate.stop();
    await this.#owned.disposeAsync();
  }

  async #start(): Promise<void> {
    const { authority, revocations, tokens } = this.#identity;
    this.#owned.defer(() => this.#source.stop());
    await this.#source.start((change) => this.#sourceChanged(change));
    this.#describeSource();
    this.#keySets.want(wantedSources(this.#source.manifests));
    this.#owned.defer(authority.onRootsChanged(() => this.#rootsChanged()));
    this.#owned.defer(revocations.onChange(() => this.#revocationsChanged()));
    this.#registry.build();
    this.#owned.defer(() => this.#admin.stop());
    await this.#admin.start();
    const handlers = administrationOf({ authority, rotation: this.#rotation, tokens, revocations });
    const socket = await AdminSocket.open({ dataDir: this.#config.dataDir, handlers });
    this.#owned.defer(() => socket.close());
    // Last, so that whoever gets in finds everything in place; and first to end.
    this.#owned.defer(() => this.#listener.stop(FIXED.server.stopMs));
    await this.#listener.start();
    this.#state = 'ready';
    this.#log.info(
      {
        listen: formatListenAddress({ ...this.#config.listen, port: this.port }),
        admin: `http://${formatListenAddress({ ...this.#config.adminListen, port: this.adminPort })}`,
        caFile: this.#identity.caFile,
        adminSocket: socket.path,
        trustDomain: this.#config.trustDomain,
        manifests: this.#source.manifests.length,
      },
      'the control plane is ready; sidecars trust it by caFile',
    );
  }

  #api(): Api {
    const { certificateBurst, certificatesPerSecond } = FIXED.server;
    const limit = () => new RateLimit(certificateBurst, certificatesPerSecond);
    const { authority, tokens, isRevoked } = this.#identity;
    const trustedAddresses: BlockList = addressSet(this.#config.trustedAddresses) ?? noAddresses();
    return new Api({
      trust: () => this.#identity.trust(),
      routes: {
        'POST /v1/certificates': certificatesHandler({
          authority,
          tokens,
          isRevoked,
          bindLabels: (identity, labels) => this.#store.bindLabels(identity, labels),
          limits: { byAddress: limit(), byIdentity: limit() },
          metrics: this.#metrics,
        }),
        'POST /v1/stream': streamHandler({
          pusher: this.#pusher,
          registrations: this.#registrations,
          store: this.#store,
          trustedAddresses,
        }),
        'POST /v1/ack': ackHandler(this.#pusher),
        'GET /v1/trust-bundle': trustBundleHandler(() => authority.roots),
      },
      metrics: this.#metrics,
      log: this.#log,
    });
  }

  #inputs(): RegistryInputs {
    return {
      trustDomain: this.#config.trustDomain,
      settings: this.#config.mesh,
      manifests: this.#source.manifests,
      workloads: this.#registrations.list(),
      roots: this.#identity.authority.roots,
      revoked: this.#identity.revoked(),
      jwks: this.#keySets.texts(),
    };
  }

  #keySetKeeper(): KeySetKeeper {
    const { dataDir, jwks } = this.#config;
    const { firstRetryMs, retryMs, keepMs, concurrency, maxSources, maxBytes } = FIXED.jwks;
    const guard = new AddressGuard(jwks.allowedAddresses);
    return new KeySetKeeper({
      fetch: ({ source, timeoutMs }, signal) => fetchKeySet(source, { guard, timeoutMs, maxBytes, signal }),
      rhythm: { refreshMs: jwks.refreshSeconds * 1000, firstRetryMs, retryMs, keepMs },
      concurrency,
      maxSources,
      file: new KeySetFile(dataDir, this.#log),
      onChange: () => this.#registry.changed(),
      metrics: this.#metrics,
      log: this.#log,
      clock: () => Date.now(),
    });
  }

  #sourceChanged({ manifests, noticedAt }: SourceChange): void {
    this.#describeSource();
    if (!manifests) return;
    this.#log.info({ objects: this.#source.manifests.length }, 'the manifests have changed');
    this.#keySets.want(wantedSources(this.#source.manifests));
    this.#registry.changed(noticedAt);
  }

  #describeSource(): void {
    const { fault, problems, manifests } = this.#source;
    const { sourceAvailable, manifestObjects } = this.#metrics;
    this.#problems.set('files', problems);
    if (fault !== null) this.#log.error({ code: fault.code }, `${fault.message}; what was read before stays in force`);
    else if (this.#faulty) this.#log.info('the manifests can be read again');
    this.#faulty = fault !== null;
    sourceAvailable.set(fault === null ? 1 : 0);
    manifestObjects.reset();
    for (const { kind } of manifests) manifestObjects.inc({ kind });
  }

  #workloadsChanged(): void {
    this.#registry.changed();
    this.#unsaved = true;
  }

  #saveWorkloads(): void {
    try {
      this.#store.saveWorkloads(this.#registrations.list());
      this.#unsaved = false;
    } catch (error) {
      this.#metrics.storageErrors.inc();
      this.#log.error(`the list of connected workloads could not be saved; streams go on: ${messageOf(error)}`);
    }
  }

  #rootsChanged(): void {
    this.#identity.refreshRoots();
    this.#certificate.renew();
    this.#registry.changed();
    const { rootCertificates: roots } = this.#identity;
    for (const stream of this.#pusher.streams) {
      if (!chainsToRoot(stream.certificate.chain, { roots, now: Date.now() })) this.#pusher.close(stream, 'untrusted');
    }
  }

  #revocationsChanged(): void {
    for (const stream of this.#pusher.streams) {
      const { identity: id, certificate } = stream;
      if (!this.#identity.isRevoked({ spiffeId: id, serial: certificate.serial })) continue;
      this.#registrations.forget(({ identity, workload }) => identity === id && nameOf(workload) === stream.name);
      this.#pusher.close(stream, 'revoked');
    }
    this.#registrations.forget(({ identity }) => this.#isRevokedIdentity(identity));
    this.#registry.changed();
  }

  #isRevokedIdentity(identity: string): boolean {
    return this.#identity.isRevoked({ spiffeId: identity, serial: '' });
  }

  #streamClosed(stream: SidecarStream, reason: CloseReason): void {
    this.#log.info({ workload: stream.name, identity: stream.identity, reason }, 'a sidecar has disconnected');
    if (this.#state !== 'stopping') this.#registrations.release(stream.lease);
  }
}

function nameOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

function noAddresses(): never {
  throw new TypeError('trustedAddresses were checked when the configuration was read');
}
