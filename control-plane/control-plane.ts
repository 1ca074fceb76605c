import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { messageOf } from '../mesh/errors.ts';
import { formatListenAddress } from './addresses.ts';
import { AdminServer } from './admin/admin-server.ts';
import { bySidecar, type ControlPlaneStatus, sidecarStatus } from './admin/status.ts';
import { AdminSocket } from './admin-socket.ts';
import { administrationOf } from './ca/administration.ts';
import { recordedAdministration } from './ca/recorded-administration.ts';
import { type ControlPlaneConfig, FIXED } from './config.ts';
import type { KeySetKeeper } from './jwks/key-set-keeper.ts';
import { openKeySets } from './jwks/open-key-sets.ts';
import { LeaderRotation } from './leader-rotation.ts';
import type { ControlPlaneMetrics } from './metrics.ts';
import type { Platform, RunningControlPlane } from './platform.ts';
import { ProblemLog } from './problem-log.ts';
import { type CloseReason, Pusher } from './push/pusher.ts';
import type { SidecarStream } from './push/sidecar-stream.ts';
import { Reactions } from './reactions.ts';
import { MeshRegistry } from './registry/mesh-registry.ts';
import { readWorkloadEntry } from './registry/objects.ts';
import { Registrations } from './registry/registrations.ts';
import type { RegistryInputs } from './registry/snapshot.ts';
import { SavedWorkloads } from './saved-workloads.ts';
import { Api } from './server/api.ts';
import { certificatesHandler } from './server/certificates.ts';
import { RateLimit } from './server/rate-limit.ts';
import { ServerCertificate } from './server/server-certificate.ts';
import { ackHandler, streamHandler, trustBundleHandler } from './server/streams.ts';
import { TlsListener } from './server/tls-listener.ts';
import { ServerIdentity } from './server-identity.ts';

export interface ControlPlaneParts {
  readonly config: ControlPlaneConfig;
  /** The control plane owns it from here on. */
  readonly platform: Platform;
  readonly log: Logger;
  readonly metrics: ControlPlaneMetrics;
}

/** One running control plane: composes the rooms, owns what they need, starts and ends them. What a change leads to is in `reactions.ts`. */
export class ControlPlane {
  readonly #config: ControlPlaneConfig;
  readonly #platform: Platform;
  readonly #log: Logger;
  readonly #metrics: ControlPlaneMetrics;
  readonly #startedAt = new Date();
  readonly #complaints: ProblemLog;
  readonly #identity: ServerIdentity;
  readonly #keySets: KeySetKeeper;
  readonly #registrations: Registrations;
  readonly #saved: SavedWorkloads;
  readonly #registry: MeshRegistry;
  readonly #pusher: Pusher;
  readonly #rotation: LeaderRotation;
  readonly #reactions: Reactions;
  readonly #listener: TlsListener;
  readonly #certificate: ServerCertificate;
  readonly #admin: AdminServer;
  /** What is to be undone, last first. */
  readonly #owned = new AsyncDisposableStack();
  #state: 'starting' | 'ready' | 'stopping' = 'starting';

  /** Nothing listens yet. @throws PosternError where what is stored is not usable. */
  private constructor({ config, platform, log, metrics }: ControlPlaneParts) {
    this.#config = config;
    this.#platform = platform;
    this.#log = log;
    this.#metrics = metrics;
    this.#identity = new ServerIdentity(config, platform);
    this.#complaints = new ProblemLog(log, metrics);
    this.#keySets = openKeySets(config, { onChange: () => this.#registry.changed(), metrics, log });
    this.#saved = new SavedWorkloads(platform, log, metrics);
    this.#registry = new MeshRegistry({
      inputs: () => this.#inputs(),
      publish: (snapshot, changedAt) => {
        this.#saved.saveChanges(this.#registrations);
        this.#pusher.publish(snapshot, changedAt);
      },
      onProblems: (problems) => this.#complaints.set('mesh', problems),
      metrics,
      log,
    });
    this.#registrations = new Registrations({
      entries: () => platform.source.manifests.filter(({ kind }) => kind === 'WorkloadEntry').map(readWorkloadEntry),
      remembered: platform.remembered.filter((one) => !this.#identity.isRevokedIdentity(one.identity)),
      onChange: () => {
        this.#registry.changed();
        this.#saved.changed();
      },
    });
    this.#pusher = new Pusher({
      epoch: randomBytes(6).toString('hex'),
      metrics,
      log,
      onClosed: (stream, reason) => this.#streamClosed(stream, reason),
    });
    this.#rotation = new LeaderRotation(platform, this.#pusher, log);
    this.#certificate = new ServerCertificate({
      issue: () => this.#identity.issueServerCertificate(),
      onRenewed: (credentials) => {
        metrics.serverCertificateExpiry.set(credentials.notAfter / 1000);
        this.#listener.renew(credentials, platform.authority.roots);
        platform.useCredentials(credentials);
      },
      onFailed: (error) => log.error(`the control plane's own certificate could not be renewed: ${messageOf(error)}`),
    });
    metrics.serverCertificateExpiry.set(this.#certificate.current.notAfter / 1000);
    this.#listener = new TlsListener({
      listen: config.listen,
      credentials: this.#certificate.current,
      roots: platform.authority.roots,
      handle: this.#api().handle,
    });
    this.#admin = new AdminServer({
      listen: config.adminListen,
      metrics: metrics.registry,
      status: () => this.#statusOfAll(),
      statusIsLocal: config.kubernetes !== null,
      notReady: () => (this.#state === 'ready' ? null : this.#state),
      onError: (error) => log.error({ err: error }, 'a request of the admin port failed'),
    });
    this.#reactions = new Reactions({
      platform,
      identity: this.#identity,
      certificate: this.#certificate,
      keySets: this.#keySets,
      registrations: this.#registrations,
      registry: this.#registry,
      pusher: this.#pusher,
      complaints: this.#complaints,
      metrics,
      log,
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
        problems: this.#complaints.texts,
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
    if (this.#state === 'ready') this.#saved.save(this.#registrations);
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
    this.#owned.defer(() => this.#platform.close());
    this.#owned.defer(() => this.#reactions.stop());
    await this.#reactions.start();
    this.#registry.build();
    this.#owned.defer(() => this.#admin.stop());
    await this.#admin.start();
    const socket = await this.#openAdminSocket();
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
        manifests: this.#platform.source.manifests.length,
      },
      'the control plane is ready',
    );
  }

  #openAdminSocket(): Promise<AdminSocket> {
    const { authority, joinTokens: tokens, revocations } = this.#platform;
    const handlers = administrationOf({ authority, rotation: this.#rotation, tokens, revocations });
    const recorded = recordedAdministration(handlers, { log: this.#log, metrics: this.#metrics });
    return AdminSocket.open({ dataDir: this.#config.dataDir, handlers: recorded });
  }

  /** What the platform sees of this control plane. */
  #running(): RunningControlPlane {
    return {
      streams: () => this.#pusher.streams,
      enforcement: () => this.#pusher.enforcement(),
      credentials: () => this.#certificate.current,
      awaitTrust: (roots, signal) => this.#rotation.awaitTrust(roots, signal),
      lead: (term) => this.#rotation.lead(term),
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
          renewsByCertificate: (peer, address) => this.#platform.renewsByCertificate(peer, address),
          isRevoked: this.#identity.isRevokedIdentity,
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

  #streamClosed(stream: SidecarStream, reason: CloseReason): void {
    this.#log.info({ workload: stream.name, identity: stream.identity, reason }, 'a sidecar has disconnected');
    if (this.#state !== 'stopping') this.#registrations.release(stream.lease);
  }
}
