import { constants } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { FairConnections } from '../../mesh/fair-connections.ts';
import { serveRequests } from '../../mesh/serve-requests.ts';
import { canonicalAddress, type ListenAddress } from '../addresses.ts';
import { FIXED } from '../config.ts';
import { listenOn, refuseBrokenClients, stopListening } from '../listen.ts';

/** The certificate that the listener shows; PEM. */
export interface ServerCredentials {
  readonly chain: string;
  readonly privateKey: string;
}

export interface TlsListenerOptions {
  readonly listen: ListenAddress;
  readonly credentials: ServerCredentials;
  readonly roots: readonly string[];
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
}

/**
 * Port 15012: HTTP/1.1 over TLS 1.3. A client certificate is asked for but not demanded, since a join token is proof too; who may do what is decided for
 * each request. Bounded: connections, connections of one address, and the time of each phase before the answer.
 */
export class TlsListener {
  readonly #server: Server;
  readonly #listen: ListenAddress;

  constructor(options: TlsListenerOptions) {
    const { headersTimeoutMs, requestTimeoutMs, handshakeTimeoutMs, keepAliveTimeoutMs } = FIXED.server;
    const { maxConnections: most, maxConnectionsPerAddress: mostPerAddress } = FIXED.server;
    this.#listen = options.listen;
    const connections = new FairConnections({ most, mostPerAddress });
    this.#server = createServer({
      ...secureContext(options.credentials, options.roots),
      minVersion: 'TLSv1.3',
      requestCert: true,
      // Judged for each request, with our own rules and today's roots: see peer-identity.ts.
      rejectUnauthorized: false,
      handshakeTimeout: handshakeTimeoutMs,
      ALPNProtocols: ['http/1.1'],
      headersTimeout: headersTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: keepAliveTimeoutMs,
      maxHeaderSize: 16 * 1024,
      connectionsCheckingInterval: 2_000,
    });
    serveRequests(this.#server, options.handle);
    this.#server.maxHeadersCount = 64;
    this.#server.on('connection', (socket: Socket) => {
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      connections.take(socket);
    });
    refuseBrokenClients(this.#server);
  }

  /** @throws PosternError ERR_LISTEN */
  start(): Promise<void> {
    return listenOn(this.#server, this.#listen, 'listen');
  }

  /** As bound; of interest where port 0 was asked for. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : this.#listen.port;
  }

  /** For connections from now on. */
  renew(credentials: ServerCredentials, roots: readonly string[]): void {
    this.#server.setSecureContext({ ...secureContext(credentials, roots), minVersion: 'TLSv1.3' });
  }

  /** Stops accepting and ends idle connections; those with an answer in progress may end it until `deadlineMs`. */
  async stop(deadlineMs: number): Promise<void> {
    await stopListening(this.#server, deadlineMs);
  }
}

const KEEP_ALIVE_MS = 15_000;

/**
 * Sessions are never resumed: a resumed one shows the client's leaf without its intermediate, which cannot be verified. Without tickets OpenSSL falls back to
 * its session cache, which node leaves empty.
 */
function secureContext(credentials: ServerCredentials, roots: readonly string[]) {
  return {
    cert: credentials.chain,
    key: credentials.privateKey,
    ca: [...roots],
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** Addresses by which clients may reach a listener, for its certificate. */
export function reachableAddresses({ address }: ListenAddress): readonly string[] {
  const own = ['127.0.0.1', '::1'];
  if (address !== '0.0.0.0' && address !== '::') return [...new Set([address, ...own])];
  const interfaces = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  const addresses = interfaces.flatMap((entry) => canonicalAddress(entry.address) ?? []);
  return [...new Set([...own, ...addresses])];
}
