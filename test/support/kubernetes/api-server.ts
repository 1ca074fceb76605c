import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { Authentication } from './authentication.ts';
import type { Credentials } from './certificates.ts';
import type { Discovery } from './discovery.ts';
import type { Faults, LoggedRequest } from './faults.ts';
import { sendFailure, sendJson, sendText } from './http.ts';
import { impersonated } from './impersonation.ts';
import { sendOpenApi } from './openapi.ts';
import type { Rbac } from './rbac.ts';
import { requestInfo } from './request-info.ts';
import type { ResourceRequests } from './resource-requests.ts';
import { ApiFailure, noSuchPath } from './status.ts';
import type { ServiceAccountTokens, User } from './tokens.ts';
import type { TypeRegistry } from './type-registry.ts';

export interface ApiServerParts {
  readonly types: TypeRegistry;
  readonly authentication: Authentication;
  readonly rbac: Rbac;
  readonly tokens: ServiceAccountTokens;
  readonly discovery: Discovery;
  readonly resources: ResourceRequests;
  readonly faults: Faults;
}

const NO_PAGE = '404 page not found\n';
const HEALTH: readonly string[] = ['/healthz', '/livez', '/readyz'];

/** The HTTPS side: each request is authenticated, authorized, and answered. */
export class ApiServer {
  readonly #parts: ApiServerParts;
  readonly #credentials: Credentials & { readonly ca: string };
  readonly #sockets = new Set<Socket>();
  #server: Server | null = null;

  constructor(parts: ApiServerParts, credentials: Credentials & { readonly ca: string }) {
    this.#parts = parts;
    this.#credentials = credentials;
  }

  /** The port. @throws Error where it is taken. */
  async listen(address: string, port: number): Promise<number> {
    const { cert, key, ca } = this.#credentials;
    const server = createServer(
      { cert, key, ca, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.2' },
      (request, response) => {
        void this.#handle(request, response);
      },
    );
    // As long as a Go server keeps idle connections, so that clients find theirs as they would there.
    server.keepAliveTimeout = 90_000;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    // A client that goes away in the midst of a handshake is no event here.
    server.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, address, resolve);
    });
    this.#server = server;
    const bound = server.address();
    if (bound === null || typeof bound === 'string') throw new Error('the API server has no port');
    return bound.port;
  }

  /** Nobody listens any more, and every connection is cut. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { faults, authentication, rbac } = this.#parts;
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const url = new URL(request.url ?? '/', 'https://stand-in');
    const method = request.method ?? 'GET';
    try {
      const logged: LoggedRequest = {
        ...requestInfo(method, url.pathname, url.searchParams),
        method,
        query: url.searchParams,
        user: '',
        userAgent: request.headers['user-agent'] ?? '',
        status: 0,
      };
      response.on('close', () => {
        logged.status = response.statusCode;
      });
      const identified = attempt(() => impersonated(request, authentication.user(request), rbac));
      const named = Object.assign(logged, { user: identified instanceof Error ? '' : identified.username });
      faults.record(named);
      const struck = await faults.strike(named);
      if (struck === 0) {
        request.socket.destroy();
        return;
      }
      if (struck !== null) throw failureOf(struck);
      if (identified instanceof Error) throw identified;
      await this.#answer(named, identified, request, response);
    } catch (thrown) {
      sendFailure(response, thrown);
    }
  }

  async #answer(info: LoggedRequest, user: User, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { types, rbac, resources } = this.#parts;
    const type = info.isResource ? types.find(info.group, info.version, info.resource) : null;
    rbac.require(user, info, type);
    if (!info.isResource) this.#answerOther(info, request, response);
    else if (type === null) this.#answerUnknown(info, response);
    else await resources.answer({ info, type, user, query: info.query, request, response });
  }

  #answerOther({ path }: LoggedRequest, request: IncomingMessage, response: ServerResponse): void {
    const { discovery, tokens } = this.#parts;
    if (HEALTH.some((one) => path === one || path.startsWith(`${one}/`))) {
      sendText(response, 200, 'text/plain; charset=utf-8', 'ok');
    } else if (path === '/openid/v1/jwks') sendJson(response, 200, tokens.jwks());
    else if (path === '/.well-known/openid-configuration') sendJson(response, 200, tokens.openIdConfiguration());
    else if (path === '/openapi/v2') sendOpenApi(request, response);
    else {
      const found = discovery.answer(path);
      if (found === null) sendText(response, 404, 'text/plain; charset=utf-8', NO_PAGE);
      else sendJson(response, 200, found);
    }
  }

  /** A group and version that nobody serves is answered in plain text, by whoever comes last upstream. */
  #answerUnknown({ group, version }: LoggedRequest, response: ServerResponse): void {
    const isServed = this.#parts.types.all().some((type) => type.group === group && type.version === version);
    if (isServed) throw noSuchPath();
    sendText(response, 404, 'text/plain; charset=utf-8', NO_PAGE);
  }
}

function attempt<T>(what: () => T): T | Error {
  try {
    return what();
  } catch (thrown) {
    return thrown instanceof Error ? thrown : new Error(String(thrown));
  }
}

function failureOf(status: number): ApiFailure {
  const reasons: { readonly [status: number]: string } = {
    429: 'TooManyRequests',
    410: 'Expired',
    409: 'Conflict',
    503: 'ServiceUnavailable',
  };
  const reason = (reasons[status] ?? 'InternalError') as 'InternalError';
  return new ApiFailure(reason, `the test asked for a failure with status ${status}`, { code: status });
}
