import fs from 'node:fs';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { systemCode } from '../mesh/atomic-file.ts';
import { EXIT, type ExitCode, messageOf, PosternError } from '../mesh/errors.ts';
import {
  ADMIN_SOCKET,
  type AdministrationError,
  type AdministrationHandlers,
  MAX_SOCKET_PATH_BYTES,
  type RotationLine,
} from './ca/administration.ts';
import { objectOf } from './ca/json.ts';
import type { NewJoinToken } from './ca/new-join-token.ts';

const MAX_BODY_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 32;
const REQUEST_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;

/**
 * HTTP over `<dataDir>/admin.sock`, mode 0600: whoever may read the CA's keys may administer it, and nobody else. Nothing else is authenticated.
 *
 *   POST   /tokens       `{namespace, serviceAccount, ttlSeconds?, labels?}` → 201 `{token, id, expiresAt}`
 *   GET    /ca           → `AuthorityDescription`
 *   POST   /ca/rotate    → application/x-ndjson of `RotationLine`
 *   GET    /revocations  → `{revocations: [...]}`
 *   POST   /revocations  `{subject}` → 201 `Revocation`
 *   DELETE /revocations  `{subject}` → `{removed: boolean}`
 */
export class AdminSocket {
  readonly path: string;
  readonly #server: http.Server;

  private constructor(path: string, server: http.Server) {
    this.path = path;
    this.#server = server;
  }

  /** The caller holds the data directory's lock. @throws PosternError ERR_ADMIN_SOCKET */
  static async open(options: {
    readonly dataDir: string;
    readonly handlers: AdministrationHandlers;
  }): Promise<AdminSocket> {
    const path = join(options.dataDir, ADMIN_SOCKET);
    const bytes = Buffer.byteLength(path);
    if (bytes > MAX_SOCKET_PATH_BYTES) {
      const message = `the path of the admin socket, ${path}, has ${bytes} bytes; a Unix socket may have ${MAX_SOCKET_PATH_BYTES}: use a shorter dataDir`;
      throw new PosternError('ERR_ADMIN_SOCKET', message, { exitCode: EXIT.config });
    }
    await removeStaleSocket(path);
    const server = http.createServer(
      { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: 1_000 },
      (request, response) => {
        handle(options.handlers, request, response).catch((error: unknown) => fail(response, error));
      },
    );
    server.maxConnections = MAX_CONNECTIONS;
    await listen(server, path);
    return new AdminSocket(path, server);
  }

  /** Ends what is in progress. Safe to call twice. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

async function handle(
  handlers: AdministrationHandlers,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  switch (`${request.method} ${request.url}`) {
    case 'POST /tokens':
      return reply(response, 201, await handlers.createToken(tokenRequest(await readBody(request))));
    case 'GET /ca':
      return reply(response, 200, handlers.describeAuthority());
    case 'POST /ca/rotate':
      return await rotate(handlers, response);
    case 'GET /revocations':
      return reply(response, 200, { revocations: handlers.listRevocations() });
    case 'POST /revocations':
      return reply(response, 201, await handlers.addRevocation(subjectOf(await readBody(request))));
    case 'DELETE /revocations':
      return reply(response, 200, { removed: await handlers.removeRevocation(subjectOf(await readBody(request))) });
    default:
      return reply(response, 404, {
        error: `there is no ${request.method} ${request.url} here: is the control plane of another version than this command?`,
        code: 'ERR_ADMIN_REQUEST',
        exitCode: EXIT.software,
      });
  }
}

/** The rotation goes on when the connection does not: what is written to a closed response goes nowhere. */
async function rotate(handlers: AdministrationHandlers, response: ServerResponse): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const write = (line: RotationLine): void => {
    if (!response.writableEnded && !response.destroyed) response.write(`${JSON.stringify(line)}\n`);
  };
  try {
    await handlers.rotateRoot((progress) => write({ type: 'progress', progress }));
    write({ type: 'done' });
  } catch (error) {
    write({ type: 'error', ...describeError(error) });
  }
  response.end();
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function fail(response: ServerResponse, error: unknown): void {
  if (response.destroyed || response.writableEnded) return;
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const described = describeError(error);
  reply(
    response,
    described.exitCode === EXIT.usage ? 400 : described.exitCode === EXIT.temporary ? 409 : 500,
    described,
  );
}

function describeError(error: unknown): AdministrationError {
  const known = error instanceof PosternError;
  const exitCode: ExitCode = known ? error.exitCode : EXIT.software;
  return { error: messageOf(error), code: known ? error.code : 'ERR_INTERNAL', exitCode };
}

async function readBody(request: IncomingMessage): Promise<{ readonly [key: string]: unknown }> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    const bytes = Buffer.from(chunk);
    length += bytes.length;
    if (length > MAX_BODY_BYTES) throw badRequest(`more than ${MAX_BODY_BYTES} bytes`);
    chunks.push(bytes);
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
    return objectOf(value);
  } catch (error) {
    throw badRequest(messageOf(error));
  }
}

function tokenRequest(body: { readonly [key: string]: unknown }): NewJoinToken {
  const { namespace, serviceAccount, ttlSeconds, labels } = body;
  if (typeof namespace !== 'string' || typeof serviceAccount !== 'string') {
    throw badRequest('namespace and serviceAccount are needed');
  }
  if (ttlSeconds !== undefined && typeof ttlSeconds !== 'number') throw badRequest('ttlSeconds must be a number');
  return { namespace, serviceAccount, ttlSeconds, labels: labels === undefined ? {} : labelsOf(labels) };
}

function labelsOf(value: unknown): { readonly [key: string]: string } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw badRequest('labels must be an object');
  const pairs = Object.entries(value).map(([key, text]: [string, unknown]): [string, string] => {
    if (typeof text !== 'string') throw badRequest('labels must be strings');
    return [key, text];
  });
  return Object.fromEntries(pairs);
}

function subjectOf({ subject }: { readonly [key: string]: unknown }): string {
  if (typeof subject !== 'string') throw badRequest('subject is needed');
  return subject;
}

/** Leaves alone what is not a socket and what someone listens on. */
async function removeStaleSocket(path: string): Promise<void> {
  const status = fs.lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!status.isSocket()) {
    throw new PosternError(
      'ERR_ADMIN_SOCKET',
      `${path} is in the way of the admin socket and is no socket: remove it`,
      {
        exitCode: EXIT.cannotCreate,
      },
    );
  }
  if (await isListening(path)) {
    throw new PosternError('ERR_ADMIN_SOCKET', `another process listens on ${path}: stop that control plane first`, {
      exitCode: EXIT.temporary,
    });
  }
  fs.rmSync(path, { force: true });
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (listening: boolean): void => {
      socket.destroy();
      resolve(listening);
    };
    // A listener too busy to answer is a listener.
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(true));
    socket.once('connect', () => settle(true));
    socket.once('error', (error) => settle(!['ECONNREFUSED', 'ENOENT'].includes(systemCode(error))));
  });
}

function listen(server: http.Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const message = `cannot open the admin socket ${path}: ${messageOf(error)}`;
      reject(new PosternError('ERR_ADMIN_SOCKET', message, { cause: error, exitCode: EXIT.cannotCreate }));
    });
    // bind(2) makes the socket with the mode that the umask leaves, so nobody can come in before a chmod would have shut them out.
    const umask = process.umask(0o177);
    try {
      server.listen(path, () => resolve());
    } finally {
      process.umask(umask);
    }
  });
}

const badRequest = (reason: string): PosternError =>
  new PosternError('ERR_ADMIN_REQUEST', `bad request on the admin socket: ${reason}`, { exitCode: EXIT.usage });
