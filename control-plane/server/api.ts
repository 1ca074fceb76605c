import type { X509Certificate } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import { isWriteFailure } from '../../mesh/atomic-file.ts';
import { messageOf } from '../../mesh/errors.ts';
import { canonicalAddress } from '../addresses.ts';
import { ApiError } from '../api-error.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import { type PeerIdentity, presentedChain, type Trust, verifyPeer } from './peer-identity.ts';
import { RateLimit } from './rate-limit.ts';

/** Who asks, as far as the connection tells. */
export interface Caller {
  /** Canonical address of the TCP peer. */
  readonly address: string;
  readonly bearer: string | null;
  /** Whether a client certificate was shown, good or not. */
  readonly hasCertificate: boolean;
  /** @throws ApiError where the client certificate is missing or not good now. */
  identity(): PeerIdentity;
}

export type Handler = (caller: Caller, request: IncomingMessage, response: ServerResponse) => Promise<void> | void;

export interface ApiOptions {
  readonly trust: () => Trust;
  /** `POST /v1/stream` → handler. */
  readonly routes: { readonly [route: string]: Handler };
  readonly metrics: ControlPlaneMetrics;
  readonly log: Logger;
}

/** Routes the requests of port 15012 and turns what is thrown into an `ErrorResponse`. */
export class Api {
  readonly #options: ApiOptions;
  /** Whoever can connect can be refused: that must not fill the log. The metric counts all. */
  readonly #logRate = new RateLimit(100, 10);
  readonly #chains = new WeakMap<TLSSocket, readonly X509Certificate[]>();

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  readonly handle = (request: IncomingMessage, response: ServerResponse): void => {
    this.#route(request, response).catch((error: unknown) => this.#refuse(request, response, error));
  };

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    const handler = this.#options.routes[`${request.method} ${path}`];
    if (handler === undefined) throw new ApiError(404, 'not-found', 'there is nothing here: see the paths under /v1');
    await handler(this.#caller(request), request, response);
  }

  #caller(request: IncomingMessage): Caller {
    const { socket } = request;
    const address = canonicalAddress(socket.remoteAddress ?? '');
    if (address === null || !(socket instanceof TLSSocket)) throw new ApiError(400, 'bad-request', 'no TLS peer');
    const chain = this.#chains.get(socket) ?? presentedChain(socket);
    this.#chains.set(socket, chain);
    const bearer = /^Bearer ([\x21-\x7e]{1,4096})$/i.exec(request.headers.authorization ?? '');
    return {
      address,
      bearer: bearer?.[1] ?? null,
      hasCertificate: chain.length > 0,
      identity: () => verifyPeer(chain, this.#options.trust()),
    };
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const refusal = error instanceof ApiError ? error : this.#unexpected(error);
    const { metrics, log } = this.#options;
    metrics.refused.inc({ code: refusal.reason });
    // The request's own socket may be detached by now.
    const peer = response.socket?.remoteAddress;
    if (this.#logRate.take('')) {
      const { status, reason: code } = refusal;
      log.info({ peer, path: request.url?.slice(0, 200), status, code }, `refused: ${refusal.message}`);
    }
    if (response.destroyed || response.headersSent) {
      response.destroy();
      return;
    }
    const retry = refusal.status === 429 || refusal.status === 503 ? { 'retry-after': '1' } : {};
    // A body that was not read whole would be taken for the next request.
    const close = request.complete ? {} : { connection: 'close' };
    sendJson(response, refusal.status, refusal.toResponse(), { ...retry, ...close });
  }

  /** Errors of our own are for the log; the peer learns only that it may try again. */
  #unexpected(error: unknown): ApiError {
    if (isWriteFailure(error)) {
      this.#options.metrics.storageErrors.inc();
      this.#options.log.error({ code: error.code }, `refused a request: ${error.message}`);
      return new ApiError(503, 'storage', 'the control plane cannot store anything now: try again later');
    }
    const aborted = error instanceof Error && 'code' in error && error.code === 'ECONNRESET';
    if (!aborted) this.#options.log.error({ err: error }, `a request failed: ${messageOf(error)}`);
    return new ApiError(503, 'unavailable', 'the control plane could not answer: try again');
  }
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: { readonly [name: string]: string } = {},
): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    'cache-control': 'no-store',
    ...headers,
  });
  response.end(text);
}
