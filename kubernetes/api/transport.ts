import { type Dispatcher, Pool } from 'undici';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import { isUntrustedCertificate } from '../../mesh/untrusted-certificate.ts';
import type { Access, Connection, TlsMaterial } from './connection.ts';
import { KubernetesError } from './errors.ts';
import { refusalOf } from './status.ts';

export interface TransportLimits {
  readonly connectMs: number;
  /** Short requests at a time; more of them wait. More than there are kinds, so that slow lists do not keep the renewal of a lease waiting. */
  readonly connections: number;
  /** Watches at a time, each on a connection of its own. */
  readonly watches: number;
}

const LIMITS: TransportLimits = { connectMs: 5_000, connections: 24, watches: 64 };
/** How long an idle connection is kept for the next request. */
const KEEP_ALIVE_MS = 15_000;
const MAX_REFUSAL_BYTES = 1024 * 1024;

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below the server's own path, with its query. */
  readonly path: string;
  readonly body?: string;
  readonly contentType?: string;
  /** The body holds secrets; nothing of the answer may be quoted. */
  readonly confidential?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Until the answer is there whole; of `open`, until it begins. */
  readonly timeoutMs: number;
}

/** The connections of one TLS identity. */
interface Pools {
  readonly tls: TlsMaterial;
  readonly short: Pool;
  readonly long: Pool;
}

/** HTTP/1.1 over TLS to one API server. Nothing is tried twice, but for an answer 401 where there are other credentials by then. */
export class Transport {
  readonly #connection: Connection;
  readonly #origin: string;
  readonly #prefix: string;
  readonly #limits: TransportLimits;
  #pools: Pools | null = null;
  #closed = false;

  constructor(connection: Connection, limits: Partial<TransportLimits> = {}) {
    this.#connection = connection;
    this.#limits = { ...LIMITS, ...limits };
    const { origin, pathname } = new URL(connection.server);
    this.#origin = origin;
    this.#prefix = pathname.replace(/\/+$/, '');
  }

  /** @returns the body of a success, of at most `maxBytes`. @throws KubernetesError */
  async call(call: Call & { readonly maxBytes: number }): Promise<string> {
    const timeout = AbortSignal.timeout(call.timeoutMs);
    const signal = call.signal === undefined ? timeout : AbortSignal.any([call.signal, timeout]);
    try {
      const response = await this.#send(call, 'short', signal);
      await this.#assertSuccess(call, response);
      return await readBounded(response.body, call.maxBytes, whatOf(call));
    } catch (error) {
      throw this.#errorOf(error, call, timeout);
    }
  }

  /** The chunks of an answer that goes on for long, on a connection of its own; ends when `signal` aborts. @throws KubernetesError */
  async open(call: Call & { readonly signal: AbortSignal }): Promise<AsyncIterable<Buffer>> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), call.timeoutMs);
    try {
      const response = await this.#send(call, 'long', AbortSignal.any([call.signal, late.signal]));
      await this.#assertSuccess(call, response);
      return this.#chunks(call, response.body);
    } catch (error) {
      throw this.#errorOf(error, call, late.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends requests and watches that are under way. */
  async close(): Promise<void> {
    this.#closed = true;
    const pools = this.#pools;
    this.#pools = null;
    if (pools !== null) await Promise.all([pools.short.destroy(), pools.long.destroy()]);
  }

  async *#chunks(call: Call, body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* body;
    } catch (error) {
      throw this.#errorOf(error, call, null);
    }
  }

  async #send(call: Call, kind: 'short' | 'long', signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const access = await this.#access(signal);
    const response = await this.#request(call, kind, access, signal);
    if (response.statusCode !== 401) return response;
    // Whatever was asked has not been done: it may be asked again.
    this.#connection.refused(access);
    const other = await this.#access(signal).catch((error: unknown) => {
      response.body.destroy();
      throw error;
    });
    if (other.token === access.token && other.tls === access.tls) return response;
    await response.body.dump({ limit: MAX_REFUSAL_BYTES });
    return this.#request(call, kind, other, signal);
  }

  /** A credential plugin takes its time, and cannot be stopped: it is only not waited for. */
  async #access(signal: AbortSignal): Promise<Access> {
    const { promise, reject } = Promise.withResolvers<never>();
    const stop = (): void => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    try {
      return await Promise.race([this.#connection.access(signal), promise]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  #request(call: Call, kind: 'short' | 'long', access: Access, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    return this.#poolsFor(access.tls)[kind].request({
      method: call.method,
      path: `${this.#prefix}${call.path}`,
      headers: {
        accept: 'application/json',
        'user-agent': 'postern',
        ...(call.body === undefined ? {} : { 'content-type': call.contentType ?? 'application/json' }),
        ...(access.token === null ? {} : { authorization: `Bearer ${access.token}` }),
      },
      ...(call.body === undefined ? {} : { body: call.body }),
      signal,
    });
  }

  /** New material makes new connections; what is under way on the old ones ends in its own time. */
  #poolsFor(tls: TlsMaterial): Pools {
    if (this.#closed) throw new KubernetesError('Aborted', 0, 'the Kubernetes client has been closed');
    if (this.#pools?.tls === tls) return this.#pools;
    const old = this.#pools;
    // Closing waits for requests; that it ends is of no interest to anybody.
    if (old !== null) void Promise.allSettled([old.short.close(), old.long.close()]);
    const { connections, watches } = this.#limits;
    this.#pools = { tls, short: this.#pool(tls, connections), long: this.#pool(tls, watches) };
    return this.#pools;
  }

  #pool({ ca, serverName, client }: TlsMaterial, connections: number): Pool {
    return new Pool(this.#origin, {
      connections,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      // Every call has its own deadline; a watch may be silent for minutes.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: {
        timeout: this.#limits.connectMs,
        rejectUnauthorized: true,
        minVersion: 'TLSv1.2',
        ...(ca === null ? {} : { ca }),
        ...(serverName === null ? {} : { servername: serverName }),
        ...(client === null ? {} : { cert: client.certificate, key: client.key }),
      },
    });
  }

  async #assertSuccess(call: Call, response: Dispatcher.ResponseData): Promise<void> {
    const { statusCode: status, headers, body } = response;
    if (status >= 200 && status < 300) return;
    const text = await readBounded(body, MAX_REFUSAL_BYTES, whatOf(call));
    const header = headers['retry-after'];
    throw refusalOf({
      what: whatOf(call),
      status,
      body: text,
      retryAfter: typeof header === 'string' ? header : null,
      // What is missing or forbidden is no secret; what is wrong with an object may quote it.
      confidential: call.confidential === true && (status === 400 || status === 422 || status >= 500),
    });
  }

  #errorOf(error: unknown, call: Call, deadline: AbortSignal | null): Error {
    if (error instanceof PosternError) return error;
    if (call.signal?.aborted === true) return new KubernetesError('Aborted', 0, `${whatOf(call)} was given up`);
    const why =
      deadline?.aborted === true ? `no answer within ${call.timeoutMs} ms` : `${reasonOf(error)}${hintFor(error)}`;
    const message = `the Kubernetes API at ${this.#origin} cannot be reached: ${why} (${whatOf(call)})`;
    return new KubernetesError('Unreachable', 0, message, { cause: error });
  }
}

/** Without the query: it differs from attempt to attempt, and says nothing to anybody. */
function whatOf({ method, path }: Call): string {
  return `${method} ${path.split('?')[0] ?? ''}`;
}

async function readBounded(body: AsyncIterable<Buffer>, maxBytes: number, what: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    // Leaving the loop ends the connection.
    if (size > maxBytes) throw new KubernetesError('Malformed', 0, `${what}: an answer of more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size).toString('utf8');
}

/** Node tries several addresses of a name, and then has several errors and no message. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join('; ');
  return messageOf(error);
}

function hintFor(error: unknown): string {
  return isUntrustedCertificate(error) ? '; its certificate is not from the CA that was given for this cluster' : '';
}
