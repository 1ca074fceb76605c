import type { Logger } from 'pino';
import { isReason } from '../../../kubernetes/api/errors.ts';
import { resourceVersionOf } from '../../../kubernetes/api/object-meta.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { KubernetesApi, ResourceType } from '../../../kubernetes/api/types.ts';
import { asObject, field, isList } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { Reconciler } from './reconciler.ts';

export interface WebhookBundlesOptions {
  readonly api: KubernetesApi;
  /** PEM of the roots, as they are now. */
  readonly roots: () => readonly string[];
  /** The service that the webhooks to be written name; others in the same object are left alone. */
  readonly service: { readonly namespace: string; readonly name: string };
  readonly log: Logger;
}

/** The objects that `manifests/kubernetes` installs, both of this name. */
export const WEBHOOK_CONFIGURATION = 'postern';

const TYPES_BY_KEY: { readonly [key: string]: ResourceType } = {
  mutating: TYPES.MutatingWebhookConfiguration,
  validating: TYPES.ValidatingWebhookConfiguration,
};

/** Keeps `caBundle` of our webhooks equal to the mesh's roots: without it the API server cannot call them, and they fail as `failurePolicy` says. */
export class WebhookBundles {
  readonly #options: WebhookBundlesOptions;
  readonly #objects: Reconciler;

  constructor(options: WebhookBundlesOptions) {
    this.#options = options;
    this.#objects = new Reconciler({
      what: 'writing caBundle',
      reconcile: (key, signal) => this.#write(key, signal),
      log: options.log,
    });
    this.look();
  }

  /** One of the objects, or the roots, may have changed. */
  look(): void {
    for (const key of Object.keys(TYPES_BY_KEY)) this.#objects.add(key);
  }

  lead(term: AbortSignal): void {
    this.#objects.lead(term);
  }

  async #write(key: string, signal: AbortSignal): Promise<void> {
    const type = TYPES_BY_KEY[key];
    if (type === undefined) return;
    const { api, roots, service } = this.#options;
    const name = { namespace: '', name: WEBHOOK_CONFIGURATION };
    let object: JsonObject;
    try {
      object = await api.get(type, name, signal);
    } catch (error) {
      // Installed without this webhook: that is a choice.
      if (isReason(error, 'NotFound')) return;
      throw error;
    }
    const body = caBundlePatch(object, service, Buffer.from(roots().join('')).toString('base64'));
    if (body !== null) await api.patch(type, name, { type: 'json', body }, { signal });
  }
}

/**
 * The JSON patch (RFC 6902) that makes the webhooks of `service` trust `caBundle` (base64); null where they do. It fails where the object has changed
 * meanwhile.
 */
export function caBundlePatch(
  object: JsonObject,
  service: { readonly namespace: string; readonly name: string },
  caBundle: string,
): JsonValue | null {
  const webhooks = field(object, 'webhooks');
  if (!isList(webhooks)) return null;
  const changes = webhooks.flatMap((webhook, index) => {
    const config = asObject(field(asObject(webhook), 'clientConfig'));
    const target = asObject(field(config, 'service'));
    const ours = field(target, 'namespace') === service.namespace && field(target, 'name') === service.name;
    if (!ours || field(config, 'caBundle') === caBundle) return [];
    // `add` replaces what is there.
    return [{ op: 'add', path: `/webhooks/${index}/clientConfig/caBundle`, value: caBundle }];
  });
  if (changes.length === 0) return null;
  return [{ op: 'test', path: '/metadata/resourceVersion', value: resourceVersionOf(object) }, ...changes];
}
