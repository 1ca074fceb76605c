import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import type { ListenAddress } from '../addresses.ts';
import { listenOn } from '../listen.ts';
import type { ControlPlaneStatus } from './status.ts';

export interface AdminServerOptions {
  readonly listen: ListenAddress;
  readonly metrics: Registry;
  readonly status: () => ControlPlaneStatus;
  /** Null while ready, else why not. */
  readonly notReady: () => string | null;
  readonly onError: (error: unknown) => void;
}

/** Port 15014, plain HTTP: `/metrics`, `/healthz/live`, `/healthz/ready`, `/status`. Reads only. */
export class AdminServer {
  readonly #options: AdminServerOptions;
  readonly #server: Server;

  constructor(options: AdminServerOptions) {
    this.#options = options;
    this.#server = createServer(
      { headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 5_000 },
      (request, response) => {
        this.#answer(request, response).catch((error: unknown) => {
          options.onError(error);
          response.destroy();
        });
      },
    );
    this.#server.maxConnections = 256;
  }

  /** @throws PosternError ERR_LISTEN */
  start(): Promise<void> {
    return listenOn(this.#server, this.#options.listen, 'adminListen');
  }

  /** As bound; of interest where port 0 was asked for. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : this.#options.listen.port;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { metrics, status, notReady } = this.#options;
    if (request.method !== 'GET' && request.method !== 'HEAD') return send(response, 405, 'text/plain', 'only GET\n');
    switch ((request.url ?? '').split('?')[0]) {
      case '/metrics':
        return send(response, 200, metrics.contentType, await metrics.metrics());
      case '/healthz/live':
        return send(response, 200, 'text/plain', 'alive\n');
      case '/healthz/ready': {
        const reason = notReady();
        return send(response, reason === null ? 200 : 503, 'text/plain', `${reason ?? 'ready'}\n`);
      }
      case '/status':
        return send(response, 200, 'application/json', `${JSON.stringify(status())}\n`);
      default:
        return send(response, 404, 'text/plain', 'try /metrics, /healthz/live, /healthz/ready or /status\n');
    }
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
