import type { Logger } from 'pino';
import { isReason } from '../../../kubernetes/api/errors.ts';
import { CLUSTER_TRUST_BUNDLE_VERSIONS, TYPES } from '../../../kubernetes/api/resource-types.ts';
import { servedVersion } from '../../../kubernetes/api/served-version.ts';
import type { KubernetesApi, ResourceType } from '../../../kubernetes/api/types.ts';
import { Reconciler } from './reconciler.ts';

export interface TrustBundlesOptions {
  readonly api: KubernetesApi;
  /** PEM of the roots, as they are now. */
  readonly roots: () => readonly string[];
  /** ConfigMap that holds them in each namespace, and its key: pods mount it. */
  readonly configMap: string;
  readonly key: string;
  /** What that key holds in a namespace, as far as is known; null: nothing. */
  readonly published: (namespace: string) => string | null;
  readonly log: Logger;
}

/** Whose ConfigMaps these are: `postern uninstall` finds them by it. */
export const TRUST_BUNDLE_LABELS = {
  'app.kubernetes.io/managed-by': 'postern-control-plane',
  'app.kubernetes.io/part-of': 'postern',
} as const;

/** Name of the cluster's object that holds the same roots, where the API serves such objects. */
export const CLUSTER_TRUST_BUNDLE = 'postern-roots';
/** Stands for the cluster's object among the namespaces; no namespace has this name. */
const CLUSTER = '';

/**
 * Keeps the mesh's roots where pods find them: a ConfigMap in every namespace, and a ClusterTrustBundle where the API has that. What somebody else changes
 * or deletes is put back: a sidecar that trusts nothing or somebody else's root would be cut off, or worse.
 */
export class TrustBundles {
  readonly #options: TrustBundlesOptions;
  readonly #namespaces: Reconciler;
  /** Null: not asked yet; false: the API has none. */
  #clusterType: ResourceType | false | null = null;
  #clusterPublished: string | null = null;

  constructor(options: TrustBundlesOptions) {
    this.#options = options;
    this.#namespaces = new Reconciler({
      what: 'publishing the trust bundle',
      reconcile: (key, signal) => (key === CLUSTER ? this.#publishCluster(signal) : this.#publish(key, signal)),
      log: options.log,
    });
    this.#namespaces.add(CLUSTER);
  }

  /** The namespace is there, or its ConfigMap has changed. */
  look(namespace: string): void {
    this.#namespaces.add(namespace);
  }

  forget(namespace: string): void {
    this.#namespaces.forget(namespace);
  }

  rootsChanged(): void {
    this.#namespaces.addAll();
  }

  lead(term: AbortSignal): void {
    // Whoever led before may have written something else.
    this.#clusterPublished = null;
    this.#namespaces.lead(term);
  }

  async #publish(namespace: string, signal: AbortSignal): Promise<void> {
    const { api, configMap: name, key, published } = this.#options;
    const bundle = this.#bundle();
    if (published(namespace) === bundle) return;
    const object = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace, labels: TRUST_BUNDLE_LABELS },
      data: { [key]: bundle },
    };
    try {
      await api.patch(TYPES.ConfigMap, { namespace, name }, { type: 'apply', body: object }, { force: true, signal });
    } catch (error) {
      // A namespace on its way out takes nothing new; it is forgotten when it has gone.
      if (!isReason(error, 'NotFound') && !isTerminating(error)) throw error;
    }
  }

  async #publishCluster(signal: AbortSignal): Promise<void> {
    const { api } = this.#options;
    this.#clusterType ??=
      (await servedVersion(api, TYPES.ClusterTrustBundle, CLUSTER_TRUST_BUNDLE_VERSIONS, signal)) ?? false;
    const type = this.#clusterType;
    const bundle = this.#bundle();
    if (type === false || this.#clusterPublished === bundle) return;
    const object = {
      apiVersion: `${type.group}/${type.version}`,
      kind: type.kind,
      metadata: { name: CLUSTER_TRUST_BUNDLE, labels: TRUST_BUNDLE_LABELS },
      spec: { trustBundle: bundle },
    };
    const name = { namespace: '', name: CLUSTER_TRUST_BUNDLE };
    await api.patch(type, name, { type: 'apply', body: object }, { force: true, signal });
    this.#clusterPublished = bundle;
  }

  #bundle(): string {
    return this.#options.roots().join('');
  }
}

function isTerminating(error: unknown): boolean {
  return isReason(error, 'Forbidden') && error.message.includes('being terminated');
}
