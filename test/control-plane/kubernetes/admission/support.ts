import { Agent, request } from 'undici';
import { injectWebhook } from '../../../../control-plane/kubernetes/admission/inject-webhook.ts';
import { validateWebhook } from '../../../../control-plane/kubernetes/admission/validate-webhook.ts';
import {
  WebhookServer,
  type WebhookServerOptions,
} from '../../../../control-plane/kubernetes/admission/webhook-server.ts';
import type { JsonObject, JsonValue } from '../../../../policy/types.ts';
import { SETTINGS } from '../../../kubernetes/injection/support.ts';
import { ClusterAuthority } from '../../../support/kubernetes/certificates.ts';

type Review = Parameters<WebhookServerOptions['onReview']>[0];

const SERVER_NAME = 'postern-control-plane.postern-system.svc';

/** A webhook server with namespaces of its own, and an API server's side of it. */
export class TestWebhooks {
  readonly reviews: Review[] = [];
  readonly errors: unknown[] = [];
  /** Labels of namespaces; others are unknown. */
  readonly namespaces = new Map<string, { readonly [key: string]: string }>([
    ['shop', { 'postern.dev/inject': 'enabled' }],
    ['plain', {}],
  ]);
  /** Labels as they were before, where what is known is behind. */
  readonly behind = new Map<string, { readonly [key: string]: string }>();
  meshConfigs: readonly string[] = [];
  /** Thrown when labels are asked for. */
  fault: Error | null = null;
  readonly authority = new ClusterAuthority();
  readonly server: WebhookServer;
  #agent: Agent;

  private constructor() {
    const validate = validateWebhook({ meshConfigs: () => this.meshConfigs });
    const inject = injectWebhook({
      settings: SETTINGS,
      version: '0.1.0',
      namespaceLabels: async (namespace, { fresh }) => {
        if (this.fault !== null) throw this.fault;
        const known = fresh ? undefined : this.behind.get(namespace);
        if (known !== undefined) return known;
        return this.namespaces.get(namespace) ?? null;
      },
    });
    this.server = new WebhookServer({
      listen: { address: '127.0.0.1', port: 0 },
      credentials: this.credentials(this.authority),
      webhooks: { inject, validate },
      onReview: (review) => void this.reviews.push(review),
      onError: (error) => void this.errors.push(error),
    });
    this.#agent = this.agent(this.authority);
  }

  static async start(): Promise<TestWebhooks> {
    const webhooks = new TestWebhooks();
    await webhooks.server.start();
    return webhooks;
  }

  async stop(): Promise<void> {
    await this.#agent.destroy();
    await this.server.stop(1_000);
  }

  credentials(authority: ClusterAuthority): WebhookServerOptions['credentials'] {
    const { cert, key } = authority.server([SERVER_NAME]);
    return { chain: cert, privateKey: key };
  }

  /** As an API server whose configuration has that authority as its caBundle. */
  agent(
    authority: ClusterAuthority,
    more: { readonly minVersion?: 'TLSv1.2'; readonly maxVersion?: 'TLSv1.2' } = {},
  ): Agent {
    return new Agent({ connect: { ca: authority.certificate, servername: SERVER_NAME, ...more } });
  }

  async send(
    path: string,
    body: string | Buffer,
    dispatcher: Agent = this.#agent,
  ): Promise<{ readonly status: number; readonly text: string }> {
    const answer = await request(`https://127.0.0.1:${this.server.port}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      dispatcher,
    });
    return { status: answer.statusCode, text: await answer.body.text() };
  }

  async health(): Promise<number> {
    const url = `https://127.0.0.1:${this.server.port}/healthz`;
    const answer = await request(url, { dispatcher: this.#agent });
    await answer.body.dump();
    return answer.statusCode;
  }

  /** The `response` of the answer. @throws where there is none. */
  async review(path: '/inject' | '/validate', asked: JsonObject): Promise<JsonObject> {
    const { status, text } = await this.send(`${path}?timeout=10s`, JSON.stringify(reviewOf(asked)));
    if (status !== 200) throw new Error(`${status}: ${text}`);
    const { apiVersion, kind, response } = JSON.parse(text) as JsonObject;
    if (apiVersion !== 'admission.k8s.io/v1' || kind !== 'AdmissionReview') throw new Error(text);
    return response as JsonObject;
  }
}

/** A review as API servers send it, with what is said here in its request. */
export function reviewOf(asked: JsonObject): JsonObject {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      requestKind: { group: '', version: 'v1', kind: 'Pod' },
      requestResource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      userInfo: {
        username: 'system:serviceaccount:kube-system:replicaset-controller',
        groups: ['system:authenticated'],
      },
      object: null,
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      ...asked,
    },
  };
}

/** The operations of a response's patch. */
export function patchOf(response: JsonObject): readonly JsonObject[] {
  const text = Buffer.from(String(response.patch), 'base64').toString();
  return JSON.parse(text) as readonly JsonObject[];
}

export function policy(spec: JsonValue, metadata: JsonObject = {}): JsonObject {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'p', namespace: 'shop', ...metadata },
    spec,
  };
}

export const POLICY_KIND = { group: 'security.istio.io', version: 'v1', kind: 'AuthorizationPolicy' };
