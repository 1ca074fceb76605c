import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { FairConnections } from '../../mesh/fair-connections.ts';
import { serveRequests } from '../../mesh/serve-requests.ts';
import type { SocketAddress } from '../worker/messages.ts';
import { listenError } from './listen-probe.ts';
import type { Log } from './logging.ts';

export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** Key: method and path, e.g. `GET /certs`. */
export type Routes = Readonly<
  Record<string, (query: URLSearchParams, headers: IncomingHttpHeaders) => Reply | Promise<Reply>>
>;

export const text = (status: number, body: string): Reply => ({
  status,
  type: 'text/plain; charset=utf-8',
  body: `${body}\n`,
});

export const json = (body: unknown): Reply => ({
  status: 200,
  type: 'application/json',
  body: `${JSON.stringify(body, null, 2)}\n`,
});

// An import statement would evaluate every export of node:http, among them WebSocket, which loads undici: 4 MB in every sidecar.
const http = process.getBuiltinModule('node:http');

const BOUNDS = {
  connections: 64,
  headerBytes: 16 * 1024,
  headersMs: 5000,
  requestMs: 10_000,
  keepAliveMs: 5000,
  requestsPerSocket: 1000,
} as const;

/** A small HTTP server for operators and probes: exact paths, no request bodies, everything bounded. */
export class HttpServer {
  readonly #what: string;
  readonly #at: SocketAddress;
  readonly #server: Server;

  /**
   * `what` is the setting, for messages. `guarded`: refuse what a web page could make a browser send, by names that resolve to this address
   * (DNS rebinding) or by requests from other origins (cross-site request forgery).
   */
  constructor(options: {
    readonly what: string;
    readonly at: SocketAddress;
    readonly routes: Routes;
    readonly guarded: boolean;
    readonly log: Log;
  }) {
    const { what, at, routes, guarded, log } = options;
    this.#what = what;
    this.#at = at;
    this.#server = http.createServer({
      maxHeaderSize: BOUNDS.headerBytes,
      headersTimeout: BOUNDS.headersMs,
      requestTimeout: BOUNDS.requestMs,
      keepAliveTimeout: BOUNDS.keepAliveMs,
      connectionsCheckingInterval: 5000,
    });
    serveRequests(this.#server, (request, response) => {
      void answer(request, routes, guarded, log).then((reply) => send(request, response, reply));
    });
    // The health port is open to all: whoever holds many connections must not keep the kubelet away, which then restarts the pod.
    const connections = new FairConnections({ most: BOUNDS.connections, mostPerAddress: BOUNDS.connections });
    this.#server.on('connection', (socket) => connections.take(socket));
    this.#server.maxRequestsPerSocket = BOUNDS.requestsPerSocket;
  }

  /** @throws PosternError where the address is taken or may not be opened. */
  async listen(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen({ host: this.#at.address, port: this.#at.port, exclusive: true }, resolve);
    try {
      await promise;
    } catch (error) {
      throw listenError(this.#what, this.#at, error);
    }
  }

  /** The port that is listened on. */
  get port(): number {
    const bound = this.#server.address();
    return typeof bound === 'object' && bound !== null ? bound.port : this.#at.port;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

async function answer(request: IncomingMessage, routes: Routes, guarded: boolean, log: Log): Promise<Reply> {
  const refusal = guarded ? refusalOf(request) : null;
  if (refusal !== null) return text(403, refusal);
  const url = URL.parse(request.url ?? '', 'http://sidecar');
  const method = request.method === 'HEAD' ? 'GET' : (request.method ?? '');
  const route = url === null ? undefined : own(routes, `${method} ${url.pathname}`);
  if (url === null || route === undefined) {
    const others = Object.keys(routes).filter((key) => key.split(' ')[1] === url?.pathname);
    return others.length > 0
      ? text(405, `use ${others.join(' or ')}`)
      : text(404, `known here are ${Object.keys(routes).join(', ')}`);
  }
  try {
    return await route(url.searchParams, request.headers);
  } catch (error) {
    if (error instanceof PosternError && error.exitCode === EXIT.usage) return text(400, error.message);
    log.error({ path: url.pathname }, `a request on a port for operators failed: ${messageOf(error)}`);
    return text(500, messageOf(error));
  }
}

const own = (routes: Routes, key: string): Routes[string] | undefined =>
  Object.hasOwn(routes, key) ? routes[key] : undefined;

/** Why a guarded server refuses; null where it does not. */
function refusalOf({ headers }: IncomingMessage): string | null {
  const host = (headers.host ?? '').replace(/:[0-9]{1,5}$/, '').replace(/^\[(.*)\]$/, '$1');
  if (host.toLowerCase() !== 'localhost' && isIP(host) === 0) return 'ask by IP address or as localhost';
  const site = headers['sec-fetch-site'];
  if (headers.origin !== undefined || (site !== undefined && site !== 'none')) return 'not for web pages';
  return null;
}

function send(request: IncomingMessage, response: ServerResponse, { status, type, body }: Reply): void {
  const hasBody =
    request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;
  // No route takes a body: one that comes anyway is not read, and the connection is of no use after it.
  if (hasBody) response.shouldKeepAlive = false;
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
