import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent, type RequestOptions, request } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { isUntrustedCertificate } from '../../mesh/untrusted-certificate.ts';
import type { Svid } from './svid.ts';
import type { ControlPlaneTrust } from './trust.ts';

/**
 * HTTP/1.1 over TLS 1.3 to the control plane. node:https and not undici: measured in an idle sidecar (RssAnon, with a stream and a second
 * request done), undici's client costs 5 MB more than node:https, all of undici 11 MB, and nothing here needs what it adds.
 */
export interface Call {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Default: the control plane's. */
  readonly origin?: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Shown as client certificate. */
  readonly svid?: Svid | null;
  /** Sent as `Authorization: Bearer`. */
  readonly token?: string;
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** The control plane answered, with a refusal. `reason` is the `code` of its ErrorResponse. */
export class ControlPlaneRefusal extends PosternError {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super('ERR_CONTROL_PLANE_REFUSED', message, { exitCode: EXIT.unavailable });
    this.name = 'ControlPlaneRefusal';
    this.status = status;
    this.reason = reason;
  }
}

const CALL_TIMEOUT_MS = 10_000;
/** For TCP and TLS: several replicas stand behind one address, and the next attempt may find a living one. */
const CONNECT_TIMEOUT_MS = 4_000;
const MAX_ANSWER_BYTES = 1024 * 1024;
/** How long a connection for short calls is kept for the next: acknowledgements come in bursts. */
const KEEP_ALIVE_MS = 5000;

export class ControlPlaneConnector {
  readonly #origin: string;
  readonly #trust: ControlPlaneTrust;
  readonly #lookup: LookupFunction;
  readonly #agent = new Agent({
    keepAlive: true,
    maxSockets: 2,
    maxFreeSockets: 1,
    timeout: KEEP_ALIVE_MS,
    // A resumed session would carry the identity of an earlier certificate, and would skip the check of the server's.
    maxCachedSessions: 0,
  });

  /** @param lookup where the host of `origin` is, asked for each connection */
  constructor(origin: string, trust: ControlPlaneTrust, lookup: LookupFunction) {
    this.#origin = origin;
    this.#trust = trust;
    this.#lookup = lookup;
  }

  /** One request with a bounded answer, within 10 s. @throws ControlPlaneRefusal, or PosternError ERR_CONTROL_PLANE_UNREACHABLE. */
  async call(call: Call): Promise<Answer> {
    const signal = AbortSignal.any([call.signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]);
    const response = await this.#send({ ...call, signal }, this.#agent);
    return this.#complete(response);
  }

  /** Opens a long-lived answer; the headers must come within 10 s. The caller owns the response and must destroy or drain it. */
  async open(call: Call): Promise<IncomingMessage> {
    const headers = new AbortController();
    const timer = setTimeout(() => headers.abort(new Error(`no answer within ${CALL_TIMEOUT_MS} ms`)), CALL_TIMEOUT_MS);
    try {
      const response = await this.#send({ ...call, signal: AbortSignal.any([call.signal, headers.signal]) }, false);
      if (response.statusCode !== 200) await this.#complete(response);
      return response;
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(call: Call, agent: Agent | false): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    let sent: ClientRequest;
    try {
      sent = request(`${call.origin ?? this.#origin}${call.path}`, this.#options(call, agent), resolve);
    } catch (error) {
      return Promise.reject(this.#unreachable(error));
    }
    sent.on('error', (error) => reject(this.#unreachable(error, call.signal)));
    limitConnecting(sent);
    sent.end(call.body === undefined ? undefined : JSON.stringify(call.body));
    return promise;
  }

  #options(call: Call, agent: Agent | false): RequestOptions {
    const { method, svid, token, signal } = call;
    return {
      method,
      agent,
      signal,
      lookup: this.#lookup,
      minVersion: 'TLSv1.3',
      ca: [...this.#trust.roots()],
      checkServerIdentity: (_host, certificate) => this.#trust.checkServer(certificate),
      maxHeaderSize: 16 * 1024,
      headers: {
        ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      ...(svid ? { cert: svid.chain, key: svid.privateKey } : {}),
    };
  }

  /** Reads the whole answer. @throws ControlPlaneRefusal where it is not a success. */
  async #complete(response: IncomingMessage): Promise<Answer> {
    const status = response.statusCode ?? 0;
    let body: string;
    try {
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of response as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) throw new Error(`an answer of more than ${MAX_ANSWER_BYTES} bytes`);
        chunks.push(chunk);
      }
      body = Buffer.concat(chunks).toString('utf8');
    } catch (error) {
      throw this.#unreachable(error);
    }
    if (status >= 200 && status < 300) return { status, body };
    const { error, code } = readError(body);
    throw new ControlPlaneRefusal(status, code, `${error} (HTTP ${status})`);
  }

  #unreachable(error: unknown, signal?: AbortSignal): PosternError {
    if (error instanceof PosternError) return error;
    const reason = signal?.aborted === true ? messageOf(signal.reason) : messageOf(error);
    return new PosternError(
      'ERR_CONTROL_PLANE_UNREACHABLE',
      `control plane ${this.#origin}: ${reason}${hintFor(error)}`,
      {
        cause: error,
        exitCode: EXIT.unavailable,
      },
    );
  }
}

function limitConnecting(sent: ClientRequest): void {
  sent.once('socket', (socket: TLSSocket) => {
    if (sent.reusedSocket) return;
    const late = new Error(`no connection within ${CONNECT_TIMEOUT_MS} ms`);
    const timer = setTimeout(() => sent.destroy(late), CONNECT_TIMEOUT_MS);
    const settle = (): void => clearTimeout(timer);
    socket.once('secureConnect', settle);
    sent.once('close', settle);
  });
}

function hintFor(error: unknown): string {
  return isUntrustedCertificate(error)
    ? '; its certificate is not from a root in controlPlane.caFile: is that the file of this control plane, and copied since its CA was last rotated?'
    : '';
}

function readError(body: string): { error: string; code: string } {
  try {
    const { error, code } = JSON.parse(body) as { error?: unknown; code?: unknown };
    if (typeof error === 'string' && typeof code === 'string')
      return { error: error.slice(0, 1000), code: code.slice(0, 100) };
  } catch {
    // Not the control plane's own answer, e.g. that of a proxy on the way.
  }
  return { error: 'the request was refused without a reason', code: 'unknown' };
}
