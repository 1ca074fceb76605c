import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { TLSSocket } from 'node:tls';
import {
  type AckRequest,
  type CertificateRequest,
  REPLICA_HEADER,
  type ServerMessage,
  type StreamRequest,
} from '../../../../mesh/push.ts';
import type { Resource } from '../../../../mesh/resources.ts';
import { describeCertificate } from '../../../../mesh/x509/certificate.ts';
import { ThrowAwayCa } from './throw-away-ca.ts';

export interface OpenStream {
  readonly request: StreamRequest;
  /** Serial of the client certificate. */
  readonly serial: string;
  readonly response: ServerResponse;
}

/** The API of mesh/push.ts, as simple as it can be, doing what a test tells it. */
export class FakeControlPlane {
  readonly ca: ThrowAwayCa;
  readonly streams: OpenStream[] = [];
  readonly acks: AckRequest[] = [];
  /** Proof of each certificate given: a token or `certificate`. */
  readonly proofs: string[] = [];
  /** Of each of them, whether a certificate was shown on the connection. */
  readonly certified: boolean[] = [];
  /** Tokens that may be used, once each unless `tokensLast`. */
  readonly tokens = new Set<string>();
  tokensLast = false;
  ttlMs = 3_600_000;
  /** What a new stream gets first. */
  greeting: (request: StreamRequest) => readonly ServerMessage[] = () => [];
  /** Set: every request is refused with it. */
  refuse: { status: number; code: string } | null = null;
  /** As which each stream is told that this replica is reached itself. */
  replica: string | null = null;
  readonly #server: Server;
  #port = 0;

  constructor(ca = new ThrowAwayCa(), identity = 'ns/postern-system/sa/control-plane') {
    this.ca = ca;
    const credentials = this.ca.server(identity);
    this.#server = createServer(
      { ...credentials, minVersion: 'TLSv1.3', ca: this.ca.root, requestCert: true, rejectUnauthorized: false },
      (request, response) => void this.#serve(request, response),
    );
  }

  static async withAuthority(ca: ThrowAwayCa, port: number, identity?: string): Promise<FakeControlPlane> {
    const controlPlane = new FakeControlPlane(ca, identity);
    await controlPlane.listen(port);
    return controlPlane;
  }

  async listen(port = 0): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
    const bound = this.#server.address();
    this.#port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  }

  get address(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** The streams that are open now. */
  get open(): OpenStream[] {
    return this.streams.filter(({ response }) => !response.closed);
  }

  send(message: ServerMessage): void {
    for (const { response } of this.open) response.write(`${JSON.stringify(message)}\n`);
  }

  push(version: string, upserts: readonly Resource[], full = false): void {
    this.send({ type: 'delta', version, full, upserts, removes: [] });
  }

  /** Ends listener and connections, as when the process dies. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString()) : null;
    if (this.refuse !== null) {
      answer(response, this.refuse.status, { error: 'refused by the test', code: this.refuse.code });
      return;
    }
    switch (`${request.method} ${request.url}`) {
      case 'GET /v1/trust-bundle':
        response.end(this.ca.root);
        return;
      case 'POST /v1/certificates':
        return this.#certify(request, response, body);
      case 'POST /v1/stream':
        return this.#stream(request, response, body);
      case 'POST /v1/ack':
        this.acks.push(body);
        response.writeHead(204).end();
        return;
      default:
        answer(response, 404, { error: 'no such path', code: 'not-found' });
        return;
    }
  }

  #certify(request: IncomingMessage, response: ServerResponse, { csr, spiffeId = '' }: CertificateRequest): void {
    const token = request.headers.authorization?.replace('Bearer ', '') ?? null;
    if (token !== null && !(this.tokensLast ? this.tokens.has(token) : this.tokens.delete(token))) {
      answer(response, 401, { error: 'no such token', code: 'token-used' });
      return;
    }
    if (token === null && clientCertificate(request) === null) {
      answer(response, 401, { error: 'no proof', code: 'unauthenticated' });
      return;
    }
    this.proofs.push(token ?? 'certificate');
    this.certified.push(clientCertificate(request) !== null);
    const now = Date.now();
    answer(response, 200, this.ca.sign(csr, spiffeId, now - 1000, now + this.ttlMs));
  }

  #stream(request: IncomingMessage, response: ServerResponse, body: StreamRequest): void {
    const certificate = clientCertificate(request);
    if (certificate === null) {
      answer(response, 401, { error: 'no certificate', code: 'unauthenticated' });
      return;
    }
    const replica = this.replica === null ? {} : { [REPLICA_HEADER]: this.replica };
    response.writeHead(200, { 'content-type': 'application/x-ndjson', ...replica });
    response.flushHeaders();
    this.streams.push({ request: body, serial: certificate.serial, response });
    for (const message of this.greeting(body)) response.write(`${JSON.stringify(message)}\n`);
  }
}

function clientCertificate(request: IncomingMessage) {
  const socket = request.socket as TLSSocket;
  const certificate = socket.getPeerX509Certificate();
  return socket.authorized && certificate !== undefined ? describeCertificate(certificate) : null;
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
