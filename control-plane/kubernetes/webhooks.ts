import type { Logger } from 'pino';
import type { KubernetesApi } from '../../kubernetes/api/types.ts';
import type { InjectionSettings } from '../../kubernetes/injection/types.ts';
import { ownVersion } from '../../mesh/version.ts';
import { formatListenAddress, type ListenAddress } from '../addresses.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import type { ServerCredentials } from '../server/tls-listener.ts';
import { injectWebhook } from './admission/inject-webhook.ts';
import { NamespaceLabels } from './admission/namespace-labels.ts';
import { validateWebhook } from './admission/validate-webhook.ts';
import { WebhookServer } from './admission/webhook-server.ts';

export interface WebhooksOptions {
  readonly listen: ListenAddress;
  readonly settings: InjectionSettings;
  readonly api: Pick<KubernetesApi, 'get'>;
  /** As followed; null where the namespace is not known (yet). */
  readonly namespaceLabels: (namespace: string) => { readonly [key: string]: string } | null;
  readonly meshConfigs: () => readonly string[];
  readonly metrics: ControlPlaneMetrics;
  readonly log: Logger;
}

/** The admission webhooks of one replica, from the control plane's start to its end. */
export class Webhooks {
  readonly #options: WebhooksOptions;
  #server: WebhookServer | null = null;

  constructor(options: WebhooksOptions) {
    this.#options = options;
  }

  /** @throws PosternError ERR_LISTEN */
  async start(credentials: ServerCredentials): Promise<void> {
    const { listen, settings, api, namespaceLabels: known, meshConfigs, metrics, log } = this.#options;
    const labels = new NamespaceLabels({ api, known });
    this.#server = new WebhookServer({
      listen,
      credentials,
      webhooks: {
        inject: injectWebhook({
          settings,
          version: ownVersion(),
          namespaceLabels: (namespace, how) => labels.of(namespace, how),
        }),
        validate: validateWebhook({ meshConfigs }),
      },
      onReview: ({ webhook, outcome, seconds }) => {
        metrics.admissionReviews.inc({ webhook, outcome });
        metrics.admissionDuration.observe(seconds);
      },
      onError: (error) => log.error({ err: error }, 'a review failed'),
    });
    await this.#server.start();
  }

  get address(): string {
    const { listen } = this.#options;
    return formatListenAddress({ ...listen, port: this.#server?.port ?? listen.port });
  }

  useCredentials(credentials: ServerCredentials): void {
    this.#server?.renew(credentials);
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.#server?.stop(deadlineMs);
  }
}
