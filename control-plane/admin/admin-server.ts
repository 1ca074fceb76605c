import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import { FairConnections } from '../../mesh/fair-connections.ts';
import { serveRequests } from '../../mesh/serve-requests.ts';
import { canonicalAddress, isLoopback, type ListenAddress } from '../addresses.ts';
import { listenOn } from '../listen.ts';
import type { ControlPlaneStatus } from './status.ts';

export interface AdminServerOptions {
  readonly listen: ListenAddress;
  readonly metrics: Registry;
  readonly status: () => Promise<ControlPlaneStatus>;
  /** Whether `/status`, which names every workload, is for this machine (this pod) only. Metrics and health are for anyone. */
  readonly statusIsLocal: boolean;
  /** Null while ready, else why not. */
  readonly notReady: () => string | null;
  readonly onError: (error: unknown) => void;
}

const MAX_CONNECTIONS = 256;

/** Port 15014, plain HTTP: `/metrics`, `/healthz/live`, `/healthz/ready`, `/status`. Reads only. */
export class AdminServer {
  readonly #options: AdminServerOptions;
  readonly #server: Server;

  constructor(options: AdminServerOptions) {
    this.#options = options;
    this.#server = createServer({
      headersTimeout: 5_000,
      requestTimeout: 10_000,
      keepAliveTimeout: 5_000,
      connectionsCheckingInterval: 2_000,
    });
    serveRequests(this.#server, (request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        options.onError(error);
        response.destroy();
      });
    });
    // Metrics are for anyone: whoever holds many connections must not keep the kubelet's probes away, which then restarts the control plane.
    const connections = new FairConnections({ most: MAX_CONNECTIONS, mostPerAddress: MAX_CONNECTIONS });
    this.#server.on('connection', (socket) => connections.take(socket));
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
    const { metrics, status, statusIsLocal, notReady } = this.#options;
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
        if (statusIsLocal && !isLoopback(canonicalAddress(request.socket.remoteAddress ?? '') ?? '')) {
          return send(response, 403, 'text/plain', 'only from the pod itself: kubectl exec … -- postern status\n');
        }
        return send(response, 200, 'application/json', `${JSON.stringify(await status())}\n`);
      default:
        return send(response, 404, 'text/plain', 'try /metrics, /healthz/live, /healthz/ready or /status\n');
    }
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
