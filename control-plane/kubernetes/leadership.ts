import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { TYPES } from '../../kubernetes/api/resource-types.ts';
import type { KubernetesApi } from '../../kubernetes/api/types.ts';
import { LeaderElection } from '../../kubernetes/lease/leader-election.ts';
import { messageOf } from '../../mesh/errors.ts';
import { POLICY_KINDS } from '../../mesh/resources.ts';
import type { Manifest } from '../../policy/types.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import type { Enforcement } from '../push/enforcement.ts';
import { ClusterFacts } from './cluster-facts.ts';
import { Complaints } from './complaints.ts';
import { Conditions } from './leader/conditions.ts';
import { PolicyEvents } from './leader/policy-events.ts';
import { TrustBundles } from './leader/trust-bundles.ts';
import { WebhookBundles } from './leader/webhook-bundles.ts';
import type { KubernetesSource } from './source/kubernetes-source.ts';

export interface LeadershipOptions {
  readonly api: KubernetesApi;
  readonly namespace: string;
  readonly pod: string;
  readonly service: string;
  readonly trustBundle: { readonly configMap: string; readonly key: string };
  readonly source: KubernetesSource;
  readonly roots: () => readonly string[];
  /** Kinds of objects that expire; `prune` deletes those that have. */
  readonly expiring: readonly { readonly what: string; prune(signal: AbortSignal): Promise<void> }[];
  readonly enforcement: (signal: AbortSignal) => Promise<ReadonlyMap<string, Enforcement> | null>;
  /** Told of each term as it begins, before anything is written. */
  readonly onTerm: (term: AbortSignal) => void;
  readonly metrics: ControlPlaneMetrics;
  readonly log: Logger;
}

/** Of the Lease, in the control plane's namespace. */
const LEASE = 'postern-control-plane';
const SYNC_TIMEOUT_MS = 30_000;
const PRUNE_MS = 10 * 60_000;
/** Kinds of ours, which have conditions. */
const OWN = { MeshConfig: TYPES.MeshConfig, Revocation: TYPES.Revocation } as const;

/** Election, and all that only the leading replica writes. What it needs to know it follows in every replica, so that a new leader begins at once. */
export class Leadership {
  readonly #options: LeadershipOptions;
  readonly #election: LeaderElection;
  readonly #facts: ClusterFacts;
  readonly #trustBundles: TrustBundles;
  readonly #webhooks: WebhookBundles;
  readonly #conditions: ReadonlyMap<string, Conditions>;
  readonly #events: PolicyEvents;
  /** Our own kinds as they were looked at last, by kind and name. */
  readonly #looked = new Map<string, Manifest>();
  readonly #complaints: Complaints;
  #term: AbortSignal | null = null;

  constructor(options: LeadershipOptions) {
    const { api, log, namespace, pod, service, source, trustBundle, roots } = options;
    this.#options = options;
    this.#complaints = new Complaints(log);
    this.#facts = new ClusterFacts({
      api,
      trustBundle,
      onNamespace: (name, there) => (there ? this.#trustBundles.look(name) : this.#trustBundles.forget(name)),
      onTrustBundle: (name) => {
        if (this.#facts.labelsOf(name) !== null) this.#trustBundles.look(name);
      },
      onWebhooks: () => this.#webhooks.look(),
      log,
    });
    const published = (name: string) => this.#facts.publishedIn(name);
    this.#trustBundles = new TrustBundles({ api, roots, ...trustBundle, published, log });
    this.#webhooks = new WebhookBundles({ api, roots, service: { namespace, name: service }, log });
    this.#conditions = new Map(
      Object.entries(OWN).map(([kind, type]) => [
        kind,
        new Conditions({ api, type, errorOf: (name) => source.errorOf(kind, '', name), log }),
      ]),
    );
    this.#events = new PolicyEvents({
      api,
      pod,
      policies: () => POLICY_KINDS.flatMap((kind) => source.received(kind)),
      errorOf: (policy) => source.errorOf(policy.kind, policy.namespace, policy.name),
      enforcement: options.enforcement,
      log,
    });
    this.#election = new LeaderElection({
      api,
      lease: { namespace, name: LEASE },
      identity: `${pod}_${randomBytes(4).toString('hex')}`,
      lead: (term) => this.#lead(term.signal),
      log,
    });
  }

  /** Of this replica's term; null while another leads. */
  get term(): AbortSignal | null {
    return this.#election.isLeader ? this.#term : null;
  }

  /** Name of the pod that leads, as far as is known. */
  get leader(): string | null {
    const { holder } = this.#election;
    return holder?.slice(0, holder.lastIndexOf('_')) ?? null;
  }

  labelsOf(namespace: string): { readonly [key: string]: string } | null {
    return this.#facts.labelsOf(namespace);
  }

  /** @throws PosternError where what the leader must know cannot be read. */
  async start(): Promise<void> {
    await this.#facts.start(SYNC_TIMEOUT_MS);
    this.#election.start();
  }

  async stop(): Promise<void> {
    await this.#election.stop();
    await this.#facts.stop();
  }

  rootsChanged(): void {
    this.#trustBundles.rootsChanged();
    this.#webhooks.look();
  }

  sourceChanged(): void {
    for (const [kind, conditions] of this.#conditions) {
      for (const manifest of this.#options.source.received(kind)) {
        const key = `${kind}/${manifest.name}`;
        if (this.#looked.get(key) === manifest) continue;
        this.#looked.set(key, manifest);
        conditions.look(manifest.name);
      }
    }
    this.#forgetGone();
  }

  #forgetGone(): void {
    const present = new Set(
      Object.keys(OWN).flatMap((kind) => this.#options.source.received(kind).map(({ name }) => `${kind}/${name}`)),
    );
    for (const key of this.#looked.keys()) {
      if (present.has(key)) continue;
      this.#looked.delete(key);
      const slash = key.indexOf('/');
      this.#conditions.get(key.slice(0, slash))?.forget(key.slice(slash + 1));
    }
  }

  async #lead(term: AbortSignal): Promise<void> {
    const { metrics, onTerm } = this.#options;
    this.#term = term;
    metrics.leader.set(1);
    const pruning = setInterval(() => void this.#prune(term), PRUNE_MS).unref();
    try {
      onTerm(term);
      this.#trustBundles.lead(term);
      this.#webhooks.lead(term);
      for (const conditions of this.#conditions.values()) conditions.lead(term);
      this.#events.lead(term);
      if (!term.aborted) await new Promise((resolve) => term.addEventListener('abort', resolve, { once: true }));
    } finally {
      clearInterval(pruning);
      metrics.leader.set(0);
      if (this.#term === term) this.#term = null;
    }
  }

  async #prune(term: AbortSignal): Promise<void> {
    for (const { what, prune } of this.#options.expiring) {
      try {
        await prune(term);
        this.#complaints.settle(what, `expired ${what} can be deleted again`);
      } catch (error) {
        if (!term.aborted)
          this.#complaints.raise(what, `expired ${what} could not be deleted: ${messageOf(error)}`, 'warn');
      }
    }
  }
}
