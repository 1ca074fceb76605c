import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { FairConnections } from '../../../mesh/fair-connections.ts';
import type { ErrorResponse } from '../../../mesh/push.ts';
import { serveRequests } from '../../../mesh/serve-requests.ts';
import type { ListenAddress } from '../../addresses.ts';
import { ApiError } from '../../api-error.ts';
import { listenOn, refuseBrokenClients, stopListening } from '../../listen.ts';
import { sendJson } from '../../server/api.ts';
import { readJsonBody } from '../../server/body.ts';
import type { ServerCredentials } from '../../server/tls-listener.ts';
import {
  type AdmissionAnswer,
  type AdmissionRequest,
  admissionReview,
  readAdmissionReview,
} from './admission-review.ts';

/** An answer, and what it amounts to: a label of metrics. */
export interface Reviewed {
  readonly outcome: 'allowed' | 'injected' | 'skipped' | 'refused';
  readonly answer: AdmissionAnswer;
}

export type Webhook = (request: AdmissionRequest) => Promise<Reviewed>;

export interface WebhookServerOptions {
  readonly listen: ListenAddress;
  readonly credentials: ServerCredentials;
  readonly webhooks: { readonly inject: Webhook; readonly validate: Webhook };
  /** After each review; `seconds` from the whole of the request's body to the answer. `error`: none could be given. */
  readonly onReview: (review: {
    readonly webhook: keyof WebhookServerOptions['webhooks'];
    readonly outcome: Reviewed['outcome'] | 'error';
    readonly seconds: number;
  }) => void;
  /** Errors of ours, which the caller learns nothing of. */
  readonly onError: (error: unknown) => void;
}

/** An object is 1.5 MiB at most in etcd; a review holds two of them, as JSON. Bytes. */
const MAX_BODY_BYTES = 6 * 1024 * 1024;
const MAX_CONNECTIONS = 1024;
/** API servers speak HTTP/1.1 to webhooks that do not offer more, with one connection for each review at a time. */
const MAX_CONNECTIONS_PER_ADDRESS = 128;

const HANDSHAKE_TIMEOUT_MS = 5_000;
const HEADERS_TIMEOUT_MS = 5_000;
/** The API server gives up after `timeoutSeconds` of the webhook's configuration (10). */
const REQUEST_TIMEOUT_MS = 15_000;
/** Longer than API servers keep idle connections (90 s): they close first, so that no review meets a closing connection. */
const KEEP_ALIVE_TIMEOUT_MS = 120_000;

/**
 * Port 15017: admission webhooks over HTTPS. Whoever reaches it may ask: answers hold nothing that is secret, and nothing is kept of what is asked.
 * An answer is given only where all of it is understood; else the status is 4xx or 5xx and the API server's failurePolicy decides.
 */
export class WebhookServer {
  readonly #options: WebhookServerOptions;
  readonly #server: Server;

  constructor(options: WebhookServerOptions) {
    this.#options = options;
    this.#server = createServer({
      ...secureContext(options.credentials),
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      ALPNProtocols: ['http/1.1'],
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      maxHeaderSize: 16 * 1024,
      connectionsCheckingInterval: 2_000,
    });
    serveRequests(this.#server, (request, response) => {
      this.#handle(request, response).catch((error: unknown) => this.#fail(request, response, error));
    });
    this.#server.maxHeadersCount = 64;
    // Any pod may connect where nothing in the cluster forbids it: that must not keep the API server away.
    const connections = new FairConnections({ most: MAX_CONNECTIONS, mostPerAddress: MAX_CONNECTIONS_PER_ADDRESS });
    this.#server.on('connection', (socket: Socket) => connections.take(socket));
    refuseBrokenClients(this.#server);
  }

  /** @throws PosternError ERR_LISTEN */
  start(): Promise<void> {
    return listenOn(this.#server, this.#options.listen, 'kubernetes.webhookListen');
  }

  /** As bound; of interest where port 0 was asked for. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : this.#options.listen.port;
  }

  /** For connections from now on. */
  renew(credentials: ServerCredentials): void {
    this.#server.setSecureContext(secureContext(credentials));
  }

  /** Stops accepting and ends idle connections; reviews in progress may be answered until `deadlineMs`. */
  async stop(deadlineMs: number): Promise<void> {
    await stopListening(this.#server, deadlineMs);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // The API server adds ?timeout=10s.
    const [path = ''] = (request.url ?? '').split('?', 1);
    if (path === '/healthz' && (request.method === 'GET' || request.method === 'HEAD')) {
      sendJson(response, 200, { status: 'ok' });
      return;
    }
    const name = path === '/inject' ? 'inject' : path === '/validate' ? 'validate' : null;
    if (name === null || request.method !== 'POST') {
      throw new ApiError(404, 'not-found', 'there is nothing here: reviews are sent by POST to /inject and /validate');
    }
    const body = await readJsonBody(request, MAX_BODY_BYTES);
    const began = performance.now();
    let outcome: Reviewed['outcome'] | 'error' = 'error';
    try {
      const review = readAdmissionReview(body);
      const reviewed = await this.#options.webhooks[name](review);
      outcome = reviewed.outcome;
      sendJson(response, 200, admissionReview(review.uid, reviewed.answer));
    } finally {
      this.#options.onReview({ webhook: name, outcome, seconds: (performance.now() - began) / 1000 });
    }
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (!(error instanceof ApiError)) this.#options.onError(error);
    if (response.destroyed || response.headersSent) {
      response.destroy();
      return;
    }
    // A body that was not read whole would be taken for the next request.
    const close = request.complete ? {} : { connection: 'close' };
    if (error instanceof ApiError) sendJson(response, error.status, error.toResponse(), close);
    else sendJson(response, 500, INTERNAL, close);
  }
}

const INTERNAL: ErrorResponse = { error: 'the control plane could not answer: its log says why', code: 'internal' };

/** API servers need not speak TLS 1.3 yet. */
function secureContext(credentials: ServerCredentials) {
  return { cert: credentials.chain, key: credentials.privateKey, minVersion: 'TLSv1.2' as const };
}
