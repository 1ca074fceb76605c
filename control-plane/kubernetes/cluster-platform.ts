import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { KubernetesClient } from '../../kubernetes/api/client.ts';
import { inCluster } from '../../kubernetes/api/in-cluster.ts';
import { fromKubeconfig } from '../../kubernetes/api/kubeconfig-connection.ts';
import { TYPES } from '../../kubernetes/api/resource-types.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { addressSet } from '../addresses.ts';
import type { SidecarStatus } from '../admin/status.ts';
import { controlPlaneIdentity } from '../ca/control-plane-identity.ts';
import { DataDirectoryLock, prepareDataDirectory } from '../ca/data-directory.ts';
import type { AcknowledgementResult } from '../ca/rotation.ts';
import type { ControlPlaneConfig } from '../config.ts';
import type { KubernetesConfig } from '../config-kubernetes.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import type { Authority, BearerTokens, Platform, RunningControlPlane, WorkloadAdmission } from '../platform.ts';
import type { Enforcement } from '../push/enforcement.ts';
import type { RegisteredWorkload } from '../registry/registrations.ts';
import type { Handler } from '../server/api.ts';
import type { PeerIdentity } from '../server/peer-identity.ts';
import type { ServerCredentials } from '../server/tls-listener.ts';
import { ExternalAuthority } from './ca/external-authority.ts';
import { watchObject } from './ca/object-watch.ts';
import { SecretAuthority } from './ca/secret-authority.ts';
import { STATE_CONFIG_MAP } from './ca/trust-state.ts';
import { PodAdmission } from './identity/pod-admission.ts';
import { PodLookup } from './identity/pod-lookup.ts';
import { ServiceAccountTokens } from './identity/service-account-tokens.ts';
import { ClusterProofs } from './joining/cluster-proofs.ts';
import { MachineAdmission } from './joining/machine-admission.ts';
import { Machines } from './joining/machines.ts';
import { SecretJoinTokens } from './joining/secret-join-tokens.ts';
import { Leadership } from './leadership.ts';
import { otherReplicas } from './replicas/other-replicas.ts';
import { Peers } from './replicas/peers.ts';
import { replicaHandler } from './replicas/replica-handler.ts';
import { addEnforcement, REPLICA_PATH } from './replicas/report.ts';
import { ClusterRevocations } from './revocations.ts';
import { KubernetesSource } from './source/kubernetes-source.ts';
import { Webhooks } from './webhooks.ts';

interface Facts {
  readonly config: ControlPlaneConfig;
  readonly kubernetes: KubernetesConfig;
  readonly api: KubernetesClient;
  readonly namespace: string;
  readonly pod: string;
  readonly log: Logger;
  readonly metrics: ControlPlaneMetrics;
}

/** How long an answer of the other replicas is good for: whoever asks often must not make them work. */
const STATUS_CACHE_MS = 2_000;
const STATUS_TIMEOUT_MS = 5_000;
const STOP_MS = 3_000;
/** Nobody is connected yet, which must not look like everybody having acknowledged. */
const STARTING: AcknowledgementResult = { connected: 0, missing: ['the control plane itself, which is starting'] };

/** A cluster: the API server is the store, the CA is shared by replicas, and tokens prove who sidecars are: service accounts' in pods, else join tokens. */
export class ClusterPlatform implements Platform {
  readonly source: KubernetesSource;
  readonly authority: Authority;
  readonly isNew: boolean;
  readonly revocations: ClusterRevocations;
  readonly tokens: BearerTokens;
  readonly admission: WorkloadAdmission;
  readonly joinTokens: SecretJoinTokens;
  readonly serverNames: readonly string[];
  /** Pods are known by the API server; nobody else is remembered. */
  readonly remembered: readonly RegisteredWorkload[] = [];
  readonly #facts: Facts;
  readonly #lock: DataDirectoryLock;
  readonly #leadership: Leadership;
  readonly #machines: Machines;
  readonly #webhooks: Webhooks | null;
  readonly #peers: Peers;
  #plane: RunningControlPlane | null = null;
  #elsewhere: { readonly at: number; readonly answer: ReturnType<Platform['sidecarsElsewhere']> } | null = null;

  private constructor(facts: Facts, lock: DataDirectoryLock, open: OpenAuthority) {
    const { api, config, kubernetes, namespace, pod, log, metrics } = facts;
    const { trustBundle, tokenAudience } = kubernetes.injection;
    this.#facts = facts;
    this.#lock = lock;
    this.authority = open.authority;
    this.isNew = open.isNew;
    this.source = new KubernetesSource({ api, log });
    this.serverNames = ['', '.svc', '.svc.cluster.local'].map((end) => `${kubernetes.service}.${namespace}${end}`);
    this.revocations = new ClusterRevocations({
      api,
      manifests: () => this.source.manifests.filter(({ kind }) => kind === 'Revocation'),
      clock: () => Date.now(),
      maxTtlSeconds: () => this.authority.maxTtlSeconds,
    });
    const pods = new PodLookup({ api, pods: (where, name) => this.source.pod(where, name)?.object ?? null });
    const trustedAddresses = addressSet(config.trustedAddresses);
    if (trustedAddresses === null) throw new TypeError('trustedAddresses were checked when the configuration was read');
    const machines = new Machines({ manifests: () => this.source.manifests, trustedAddresses, namespace });
    this.#machines = machines;
    this.joinTokens = new SecretJoinTokens({ api, namespace, machines, clock: () => Date.now(), log });
    const ofPods = new ServiceAccountTokens({ api, pods, audience: tokenAudience, log });
    this.tokens = new ClusterProofs({ pods: ofPods, machines: this.joinTokens });
    this.admission = new PodAdmission({ pods, machines: new MachineAdmission(machines) });
    this.#peers = new Peers({
      peers: () => otherReplicas(this.source.manifests, { namespace, pod, port: config.listen.port }),
      identity: controlPlaneIdentity(config.trustDomain).uri,
      credentials: () => this.#requirePlane().credentials(),
      roots: () => this.authority.roots,
      log,
    });
    this.#leadership = new Leadership({
      api,
      namespace,
      pod,
      service: kubernetes.service,
      trustBundle,
      source: this.source,
      roots: () => this.authority.roots,
      expiring: [
        { what: 'revocations', prune: (signal) => this.revocations.prune(signal) },
        { what: 'join tokens', prune: (signal) => this.joinTokens.prune(signal) },
      ],
      enforcement: (signal) => this.#enforcement(signal),
      onTerm: (term) => this.#plane?.lead(term),
      metrics,
      log,
    });
    const { webhookListen } = kubernetes;
    this.#webhooks =
      webhookListen === null
        ? null
        : new Webhooks({
            listen: webhookListen,
            settings: kubernetes.injection,
            api,
            namespaceLabels: (name) => this.#leadership.labelsOf(name),
            meshConfigs: () => this.source.received('MeshConfig').map(({ name }) => name),
            metrics,
            log,
          });
  }

  /** @throws PosternError where the API server, the CA or the data directory cannot be used: the message says what to do. */
  static async open(
    config: ControlPlaneConfig,
    kubernetes: KubernetesConfig,
    log: Logger,
    metrics: ControlPlaneMetrics,
  ): Promise<ClusterPlatform> {
    const connection = kubernetes.kubeconfig === null ? inCluster() : fromKubeconfig({ path: kubernetes.kubeconfig });
    const api = new KubernetesClient(connection);
    const namespace = kubernetes.namespace ?? process.env.POD_NAMESPACE ?? connection.namespace;
    prepareDataDirectory(config.dataDir);
    const lock = DataDirectoryLock.acquire(config.dataDir);
    try {
      if (namespace === null) {
        const message =
          'it is not known in which namespace the control plane runs: set kubernetes.namespace, or POD_NAMESPACE';
        throw new PosternError('ERR_CONFIG', message, { exitCode: EXIT.config });
      }
      const version = await api.version(AbortSignal.timeout(STATUS_TIMEOUT_MS));
      // Init containers with restartPolicy Always are on by default since 1.29.
      const nativeSidecar = kubernetes.nativeSidecar ?? (version.major > 1 || version.minor >= 29);
      log.info({ kubernetes: version.gitVersion, nativeSidecar, namespace }, 'the API server answers');
      const settled = { ...kubernetes, injection: { ...kubernetes.injection, nativeSidecar } };
      const pod = kubernetes.podName ?? process.env.POD_NAME ?? hostname();
      const facts: Facts = { config, kubernetes: settled, api, namespace, pod, log, metrics };
      // The authority asks who leads, and who trusts what, only once it runs.
      const late: { platform: ClusterPlatform | null } = { platform: null };
      const opened = await openAuthority(facts, late);
      try {
        late.platform = new ClusterPlatform(facts, lock, opened);
      } catch (error) {
        opened.authority.close();
        throw error;
      }
      return late.platform;
    } catch (error) {
      lock.release();
      await api.close();
      throw error;
    }
  }

  /** Of this replica's term; null while another leads. */
  get term(): AbortSignal | null {
    return this.#leadership.term;
  }

  /**
   * Only of a machine, where its WorkloadEntry says that it is. The token beside a pod's certificate says that the pod is still there; `redeem` knows
   * what to do while the API server is away.
   */
  renewsByCertificate({ spiffeId }: PeerIdentity, peerAddress: string): boolean {
    return this.#machines.hasOne(spiffeId, peerAddress);
  }

  saveWorkloads(): void {}

  bindLabels(): void {}

  publishRoots(): void {
    this.#leadership.rootsChanged();
  }

  sourceChanged(): void {
    const { lastContact } = this.source;
    if (lastContact !== null) this.#facts.metrics.sourceContact.set(lastContact / 1000);
    this.revocations.refresh();
    this.#leadership.sourceChanged();
  }

  useCredentials(credentials: ServerCredentials): void {
    this.#webhooks?.useCredentials(credentials);
  }

  routes(plane: RunningControlPlane): { readonly [route: string]: Handler } {
    const { config, pod } = this.#facts;
    return {
      [`POST ${REPLICA_PATH}`]: replicaHandler({
        identity: controlPlaneIdentity(config.trustDomain).uri,
        pod,
        streams: () => plane.streams(),
        enforcement: () => plane.enforcement(),
      }),
    };
  }

  readonly awaitTrustElsewhere = (roots: readonly string[], signal: AbortSignal): Promise<AcknowledgementResult> =>
    this.#peers.awaitTrust(roots, signal);

  /** Of the sidecars of all replicas, this one among them. */
  async awaitTrustEverywhere(roots: readonly string[], signal: AbortSignal): Promise<AcknowledgementResult> {
    return (await this.#plane?.awaitTrust(roots, signal)) ?? STARTING;
  }

  /** Null too where the lease is this replica's own but no term goes on: it was started anew, or could not renew in time. */
  leader(): string | null {
    const { leader, term } = this.#leadership;
    return leader === this.#facts.pod && term === null ? null : leader;
  }

  async sidecarsElsewhere(): Promise<{
    readonly sidecars: readonly SidecarStatus[];
    readonly missing: readonly string[];
  }> {
    const now = performance.now();
    if (this.#elsewhere === null || now - this.#elsewhere.at > STATUS_CACHE_MS) {
      this.#elsewhere = { at: now, answer: this.#askForSidecars() };
    }
    return await this.#elsewhere.answer;
  }

  async start(plane: RunningControlPlane): Promise<void> {
    this.#plane = plane;
    await this.#leadership.start();
    await this.#webhooks?.start(plane.credentials());
  }

  describe(): { readonly [fact: string]: string } {
    const { namespace, pod } = this.#facts;
    return { namespace, pod, webhooks: this.#webhooks?.address ?? 'none' };
  }

  async close(): Promise<void> {
    await this.#webhooks?.stop(STOP_MS);
    await this.#leadership.stop();
    await this.source.stop();
    this.authority.close();
    await this.#facts.api.close();
    this.#lock.release();
  }

  async #askForSidecars() {
    const question = { roots: [], sidecars: true, policies: false };
    const answers = await this.#peers.ask(question, AbortSignal.timeout(STATUS_TIMEOUT_MS));
    return {
      sidecars: answers.flatMap(({ report }) => report?.sidecars ?? []),
      missing: answers.flatMap((answer) => (answer.report === null ? [`${answer.pod}: ${answer.failure}`] : [])),
    };
  }

  /** Of all replicas. */
  async #enforcement(signal: AbortSignal): Promise<ReadonlyMap<string, Enforcement> | null> {
    const elsewhere = await this.#peers.enforcement(signal);
    if (elsewhere === null) return null;
    const total = new Map<string, Enforcement>(elsewhere);
    for (const [key, one] of this.#requirePlane().enforcement()) total.set(key, addEnforcement(total.get(key), one));
    return total;
  }

  #requirePlane(): RunningControlPlane {
    if (this.#plane === null) throw new TypeError('the control plane has not been started');
    return this.#plane;
  }
}

interface OpenAuthority {
  readonly authority: Authority;
  readonly isNew: boolean;
}

async function openAuthority(
  facts: Facts,
  late: { readonly platform: ClusterPlatform | null },
): Promise<OpenAuthority> {
  const { api, config, kubernetes, namespace, log } = facts;
  const { trustDomain, certificates } = config;
  const { kind, secret } = kubernetes.ca;
  const watch = (name: string, type: typeof TYPES.Secret | typeof TYPES.ConfigMap) =>
    watchObject({ api, type, namespace, name, log });
  const common = {
    api,
    namespace,
    secret,
    trustDomain,
    clock: () => Date.now(),
    defaults: certificates,
    term: () => late.platform?.term ?? null,
    log,
  };
  if (kind === 'own') {
    const authority = await SecretAuthority.open({ ...common, watches: [watch(secret, TYPES.Secret)] });
    return { authority, isNew: authority.isNew };
  }
  const authority = await ExternalAuthority.open({
    ...common,
    watches: [watch(secret, TYPES.Secret), watch(STATE_CONFIG_MAP, TYPES.ConfigMap)],
    awaitAcknowledgement: async (roots, signal) =>
      (await late.platform?.awaitTrustEverywhere(roots, signal)) ?? STARTING,
  });
  return { authority, isNew: false };
}
