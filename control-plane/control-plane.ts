import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import { formatListenAddress } from './addresses.ts';
import { AdminServer } from './admin/admin-server.ts';
import { type ControlPlaneStatus, type SidecarStatus, sidecarStatus } from './admin/status.ts';
import { AdminSocket } from './admin-socket.ts';
import { administrationOf } from './ca/administration.ts';
import { type AcknowledgementResult, RootRotation } from './ca/rotation.ts';
import { type ControlPlaneConfig, FIXED } from './config.ts';
import { AddressGuard } from './jwks/address-guard.ts';
import { fetchKeySet } from './jwks/fetch-key-set.ts';
import { KeySetFile } from './jwks/key-set-file.ts';
import { KeySetKeeper } from './jwks/key-set-keeper.ts';
import { wantedSources } from './jwks/wanted-sources.ts';
import type { ControlPlaneMetrics } from './metrics.ts';
import type { Platform, RunningControlPlane } from './platform.ts';
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
import { ServerCertificate } from './server/server-certificate.ts';
import { ackHandler, streamHandler, trustBundleHandler } from './server/streams.ts';
import { TlsListener } from './server/tls-listener.ts';
import { ServerIdentity } from './server-identity.ts';
import type { SourceChange } from './source/manifest-source.ts';

export interface ControlPlaneParts {
  readonly config: ControlPlaneConfig;
  /** The control plane owns it from here on. */
  readonly platform: Platform;
  readonly log: Logger;
  readonly metrics: ControlPlaneMetrics;
}

/** One running control plane: composes the rooms, owns what they need, and passes on what changes in one to the others. */
export class ControlPlane {
  readonly #config: ControlPlaneConfig;
  readonly #platform: Platform;
  readonly #log: Logger;
  readonly #metrics: ControlPlaneMetrics;
  readonly #startedAt = new Date();
  readonly #problems: ProblemLog;
  readonly #identity: ServerIdentity;
  readonly #keySets: KeySetKeeper;
  readonly #registrations: Registrations;
  readonly #registry: MeshRegistry;
  readonly #pusher: Pusher;
  /** Workloads have come or gone since their list was saved. */
  #unsaved = false;
  readonly #listener: TlsListener;
  readonly #certificate: ServerCertificate;
  readonly #admin: AdminServer;
  /** Null while another replica leads. */
  #rotation: RootRotation | null = null;
  #hasLed = false;
  /** What is to be undone, last first. */
  readonly #owned = new AsyncDisposableStack();
  /** Whether the source could not be read last time. */
  #faulty = false;
  #state: 'starting' | 'ready' | 'stopping' = 'starting';

  /** Nothing listens yet. @throws PosternError where what is stored is not usable. */
  private constructor({ config, platform, log, metrics }: ControlPlaneParts) {
    this.#config = config;
    this.#platform = platform;
    this.#log = log;
    this.#metrics = metrics;
    this.#identity = new ServerIdentity(config, platform);
    this.#problems = new ProblemLog(log, metrics);
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
    const { source } = platform;
    this.#registrations = new Registrations({
      entries: () => source.manifests.filter(({ kind }) => kind === 'WorkloadEntry').map(readWorkloadEntry),
      remembered: platform.remembered.filter((one) => !this.#isRevokedIdentity(one.identity)),
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
        this.#listener.renew(credentials, platform.authority.roots);
        platform.useCredentials(credentials);
      },
      onFailed: (error) => log.error(`the control plane's own certificate could not be renewed: ${messageOf(error)}`),
    });
    this.#metrics.serverCertificateExpiry.set(this.#certificate.current.notAfter / 1000);
    this.#listener = new TlsListener({
      listen: config.listen,
      credentials: this.#certificate.current,
      roots: platform.authority.roots,
      handle: this.#api().handle,
    });
    this.#admin = new AdminServer({
      listen: config.adminListen,
      metrics: this.#metrics.registry,
      status: () => this.#statusOfAll(),
      statusIsLocal: config.kubernetes !== null,
      notReady: () => (this.#state === 'ready' ? null : this.#state),
      onError: (error) => log.error({ err: error }, 'a request of the admin port failed'),
    });
  }

  /**
   * @throws PosternError where it cannot start: the message says what to do. Nothing is left behind then.
   */
  static async start(parts: ControlPlaneParts): Promise<ControlPlane> {
    let plane: ControlPlane;
    try {
      plane = new ControlPlane(parts);
    } catch (error) {
      await parts.platform.close();
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

  /** Of this process. */
  status(): ControlPlaneStatus {
    const { source } = this.#platform;
    return {
      trustDomain: this.#config.trustDomain,
      startedAt: this.#startedAt.toISOString(),
      sidecars: bySidecar(this.#pusher.streams.map(sidecarStatus)),
      missingReplicas: [],
      manifests: {
        objects: source.manifests.length,
        fault: source.fault?.message ?? null,
        problems: this.#problems.texts.map(([text]) => text),
      },
    };
  }

  /** With the sidecars of the other replicas. */
  async #statusOfAll(): Promise<ControlPlaneStatus> {
    const { sidecars, missing } = await this.#platform.sidecarsElsewhere();
    const own = this.status();
    return { ...own, sidecars: bySidecar([...own.sidecars, ...sidecars]), missingReplicas: missing };
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
    this.#rotation?.close();
    this.#certificate.stop();
    await this.#owned.disposeAsync();
  }

  async #start(): Promise<void> {
    const { source, authority, revocations } = this.#platform;
    this.#owned.defer(() => this.#platform.close());
    await source.start((change) => this.#sourceChanged(change));
    this.#identity.refreshRevoked();
    this.#platform.sourceChanged();
    this.#describeSource();
    this.#keySets.want(wantedSources(source.manifests));
    this.#owned.defer(authority.onRootsChanged(() => this.#rootsChanged()));
    this.#owned.defer(revocations.onChange(() => this.#revocationsChanged()));
    this.#registry.build();
    this.#owned.defer(() => this.#admin.stop());
    await this.#admin.start();
    const socket = await AdminSocket.open({ dataDir: this.#config.dataDir, handlers: this.#administration() });
    this.#owned.defer(() => socket.close());
    // Last, so that whoever gets in finds everything in place; and first to end.
    this.#owned.defer(() => this.#listener.stop(FIXED.server.stopMs));
    await this.#listener.start();
    await this.#platform.start(this.#running());
    this.#state = 'ready';
    this.#log.info(
      {
        listen: formatListenAddress({ ...this.#config.listen, port: this.port }),
        admin: `http://${formatListenAddress({ ...this.#config.adminListen, port: this.adminPort })}`,
        ...this.#platform.describe(),
        adminSocket: socket.path,
        trustDomain: this.#config.trustDomain,
        manifests: source.manifests.length,
      },
      'the control plane is ready',
    );
  }

  #administration() {
    const { authority, joinTokens, revocations } = this.#platform;
    return administrationOf({
      authority,
      rotation: { rotate: (report) => this.#requireRotation().rotate(report) },
      tokens: joinTokens,
      revocations,
    });
  }

  #requireRotation(): RootRotation {
    if (this.#rotation !== null) return this.#rotation;
    const leader = this.#platform.leader();
    const where = leader === null ? 'no replica leads at this moment: try again soon' : `run it in the pod ${leader}`;
    throw new PosternError('ERR_NOT_LEADER', `only the leading replica changes the root: ${where}`, {
      exitCode: EXIT.temporary,
    });
  }

  /** What the platform sees of this control plane. */
  #running(): RunningControlPlane {
    return {
      streams: () => this.#pusher.streams,
      enforcement: () => this.#pusher.enforcement(),
      credentials: () => this.#certificate.current,
      awaitTrust: (roots, signal) => this.#awaitTrust(roots, signal),
      lead: (term) => this.#lead(term),
    };
  }

  #lead(term: AbortSignal): void {
    const rotation = new RootRotation({
      authority: this.#platform.authority,
      // In a later term there are sidecars of the replicas that led before.
      isNew: this.#platform.isNew && !this.#hasLed,
      clock: () => Date.now(),
      awaitAcknowledgement: (roots, signal) => this.#awaitTrust(roots, signal),
      onNotice: (message) => this.#log.info(message),
    });
    this.#rotation = rotation;
    this.#hasLed = true;
    term.addEventListener(
      'abort',
      () => {
        rotation.close();
        if (this.#rotation === rotation) this.#rotation = null;
      },
      { once: true },
    );
  }

  async #awaitTrust(roots: readonly string[], signal: AbortSignal): Promise<AcknowledgementResult> {
    const [here, elsewhere] = await Promise.all([
      this.#pusher.awaitTrust(roots, signal),
      this.#platform.awaitTrustElsewhere(roots, signal),
    ]);
    return {
      connected: here.connected + elsewhere.connected,
      missing: [...here.missing, ...elsewhere.missing],
    };
  }

  #api(): Api {
    const { certificateBurst, certificatesPerSecond } = FIXED.server;
    const limit = () => new RateLimit(certificateBurst, certificatesPerSecond);
    const { authority, tokens, admission } = this.#platform;
    return new Api({
      trust: () => this.#identity.trust(),
      routes: {
        ...this.#platform.routes(this.#running()),
        'POST /v1/certificates': certificatesHandler({
          authority,
          tokens,
          renewsByCertificate: (peer) => this.#platform.renewsByCertificate(peer),
          isRevoked: this.#identity.isRevoked,
          bindLabels: (identity, labels) => this.#platform.bindLabels(identity, labels),
          limits: { byAddress: limit(), byIdentity: limit() },
          metrics: this.#metrics,
        }),
        'POST /v1/stream': streamHandler({
          pusher: this.#pusher,
          registrations: this.#registrations,
          admission,
          tellsReplica: this.#config.kubernetes !== null,
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
      manifests: this.#platform.source.manifests,
      workloads: this.#registrations.list(),
      roots: this.#platform.authority.roots,
      revoked: this.#identity.revoked(),
      jwks: this.#keySets.texts(),
    };
  }

  #keySetKeeper(): KeySetKeeper {
    const { dataDir, jwks } = this.#config;
    const { firstRetryMs, retryMs, keepMs, concurrency, maxSources, maxSourcesOfOne, maxBytes } = FIXED.jwks;
    const guard = new AddressGuard(jwks.allowedAddresses);
    return new KeySetKeeper({
      fetch: ({ source, timeoutMs }, signal) => fetchKeySet(source, { guard, timeoutMs, maxBytes, signal }),
      rhythm: { refreshMs: jwks.refreshSeconds * 1000, firstRetryMs, retryMs, keepMs },
      concurrency,
      maxSources,
      maxSourcesOfOne,
      file: new KeySetFile(dataDir, this.#log),
      onChange: () => this.#registry.changed(),
      metrics: this.#metrics,
      log: this.#log,
      clock: () => Date.now(),
    });
  }

  #sourceChanged({ manifests, noticedAt }: SourceChange): void {
    const { source } = this.#platform;
    this.#describeSource();
    if (manifests) {
      this.#log.info({ objects: source.manifests.length }, 'the manifests have changed');
      this.#keySets.want(wantedSources(source.manifests));
      if (this.#identity.refreshRevoked()) this.#revocationsChanged();
      this.#registry.changed(noticedAt);
    }
    this.#platform.sourceChanged();
  }

  #describeSource(): void {
    const { fault, problems, manifests } = this.#platform.source;
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
      this.#platform.saveWorkloads(this.#registrations.list());
      this.#unsaved = false;
    } catch (error) {
      this.#metrics.storageErrors.inc();
      this.#log.error(`the list of connected workloads could not be saved; streams go on: ${messageOf(error)}`);
    }
  }

  #rootsChanged(): void {
    this.#identity.refreshRoots();
    this.#platform.publishRoots();
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

function bySidecar(sidecars: readonly SidecarStatus[]): readonly SidecarStatus[] {
  return sidecars.toSorted((a, b) => (a.workload < b.workload ? -1 : 1));
}
