import type { Logger } from 'pino';
import { resourceVersionOf } from '../../kubernetes/api/object-meta.ts';
import { TYPES } from '../../kubernetes/api/resource-types.ts';
import type { KubernetesApi, ResourceType } from '../../kubernetes/api/types.ts';
import { Informer } from '../../kubernetes/informer/informer.ts';
import { asObject, asString, field, stringMap } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { WEBHOOK_CONFIGURATION } from './leader/webhook-bundles.ts';

interface NamespaceFacts {
  readonly labels: { readonly [key: string]: string };
  readonly terminating: boolean;
}

export interface ClusterFactsOptions {
  readonly api: Pick<KubernetesApi, 'list' | 'watch'>;
  /** The ConfigMap with the roots in every namespace, and its key. */
  readonly trustBundle: { readonly configMap: string; readonly key: string };
  readonly onNamespace: (namespace: string, there: boolean) => void;
  readonly onTrustBundle: (namespace: string) => void;
  readonly onWebhooks: () => void;
  readonly log: Logger;
}

/** What the control plane follows for itself, beside what the mesh is made of: namespaces, and what it publishes. */
export class ClusterFacts {
  readonly #namespaces: Informer<NamespaceFacts>;
  readonly #bundles: Informer<string>;
  readonly #others: readonly Informer<string>[];
  readonly #configMap: string;

  constructor(options: ClusterFactsOptions) {
    const { api, log, trustBundle } = options;
    this.#configMap = trustBundle.configMap;
    this.#namespaces = new Informer<NamespaceFacts>({
      api,
      type: TYPES.Namespace,
      transform: namespaceFacts,
      equals: (a, b) => JSON.stringify(a) === JSON.stringify(b),
      onChange: (changes) => {
        for (const { key, after } of changes) options.onNamespace(key, after !== null && !after.terminating);
      },
      log,
    });
    this.#bundles = new Informer<string>({
      api,
      type: TYPES.ConfigMap,
      selection: { fieldSelector: `metadata.name=${trustBundle.configMap}` },
      transform: (object) => asString(field(asObject(field(object, 'data')), trustBundle.key)) ?? '',
      equals: (a, b) => a === b,
      onChange: (changes) => {
        for (const { key } of changes) options.onTrustBundle(key.slice(0, key.indexOf('/')));
      },
      log,
    });
    const versionOf = (type: ResourceType): Informer<string> =>
      new Informer<string>({
        api,
        type,
        selection: { fieldSelector: `metadata.name=${WEBHOOK_CONFIGURATION}` },
        transform: resourceVersionOf,
        equals: (a, b) => a === b,
        onChange: options.onWebhooks,
        log,
      });
    this.#others = [versionOf(TYPES.MutatingWebhookConfiguration), versionOf(TYPES.ValidatingWebhookConfiguration)];
  }

  /** Null where the namespace is not known. */
  labelsOf(namespace: string): { readonly [key: string]: string } | null {
    return this.#namespaces.objects.get(namespace)?.labels ?? null;
  }

  /** What the trust bundle of a namespace holds; null: there is none. */
  publishedIn(namespace: string): string | null {
    return this.#bundles.objects.get(`${namespace}/${this.#configMap}`) ?? null;
  }

  /** @throws PosternError ERR_KUBERNETES_SYNC */
  async start(timeoutMs: number): Promise<void> {
    for (const informer of this.#all()) informer.start();
    await Promise.all(this.#all().map((informer) => informer.whenSynced(timeoutMs)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all().map((informer) => informer.stop()));
  }

  #all() {
    return [this.#namespaces, this.#bundles, ...this.#others];
  }
}

function namespaceFacts(object: JsonObject): NamespaceFacts {
  const metadata = asObject(field(object, 'metadata'));
  return {
    labels: Object.fromEntries(stringMap(field(metadata, 'labels'))),
    terminating: asString(field(metadata, 'deletionTimestamp')) !== null,
  };
}
