import { isReason } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { KubernetesApi } from '../../../kubernetes/api/types.ts';
import { asObject, field, stringMap } from '../../../policy/json.ts';
import { RateLimit } from '../../server/rate-limit.ts';
import { Gate, GateFull } from '../identity/gate.ts';

type Labels = { readonly [key: string]: string };

export interface NamespaceLabelsOptions {
  readonly api: Pick<KubernetesApi, 'get'>;
  /** As followed; null where the namespace is not known (yet). */
  readonly known: (namespace: string) => Labels | null;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

const ASK_TIMEOUT_MS = 3_000;
const LIMITS = { concurrent: 8, waiting: 64, waitMs: 2_000 } as const;
const BURST = 100;
const PER_SECOND = 20;
/** RFC 1123 label. */
const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/**
 * Labels of namespaces. One that was made a moment ago may not have been heard of: that is worth one question to the API server, but whoever reaches the
 * webhooks can name any number that are none, so there is a bound on how many are asked.
 */
export class NamespaceLabels {
  readonly #options: NamespaceLabelsOptions;
  readonly #gate = new Gate(LIMITS);
  readonly #rate: RateLimit;

  constructor(options: NamespaceLabelsOptions) {
    this.#options = options;
    this.#rate = new RateLimit(BURST, PER_SECOND, options.now);
  }

  /**
   * Null where that cannot be found out now. @param fresh asks in any case. @throws KubernetesError for what is wrong with our asking
   */
  async of(namespace: string, { fresh }: { readonly fresh: boolean }): Promise<Labels | null> {
    const { api, known } = this.#options;
    const labels = fresh ? null : known(namespace);
    if (labels !== null) return labels;
    if (!NAME.test(namespace) || !this.#rate.take('')) return null;
    try {
      const name = { namespace: '', name: namespace };
      const object = await this.#gate.run(() => api.get(TYPES.Namespace, name, AbortSignal.timeout(ASK_TIMEOUT_MS)));
      return Object.fromEntries(stringMap(field(asObject(field(object, 'metadata')), 'labels')));
    } catch (error) {
      if (error instanceof GateFull || isReason(error, 'NotFound', 'Unreachable')) return null;
      throw error;
    }
  }
}
