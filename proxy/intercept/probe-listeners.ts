import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { type Address, originalDestination } from '../native/socket.ts';

/** Strangers may connect while a probe listens; they get the nonce and are of no use with it. */
const MAX_CONNECTIONS = 64;
const SOCKET_TIMEOUT_MS = 5_000;

function portInUse(port: number): PosternError {
  return new PosternError(
    'ERR_INTERCEPT_PORT_IN_USE',
    `port ${port} is in use, most likely by the sidecar itself, so that no probe can listen there: validate before the sidecar starts ` +
      '(as an init container does), or stop it for the moment. No rule was changed',
    { exitCode: EXIT.failure },
  );
}

async function listen(server: Server, port: number): Promise<void> {
  const attempt = async (host: string): Promise<void> => {
    server.listen({ port, host });
    await once(server, 'listening');
  };
  try {
    await attempt('::');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code === 'EADDRINUSE') throw portInUse(port);
    // No IPv6 in this network namespace.
    if (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL') return attempt('0.0.0.0');
    throw new PosternError('ERR_INTERCEPT_LISTEN', `the probe cannot listen on port ${port}: ${messageOf(error)}`, {
      exitCode: EXIT.osError,
      cause: error,
    });
  }
}

/** What a listener tells whoever connects, as a line of JSON. */
export interface Answer {
  /** Cannot be known otherwise. */
  readonly nonce: string;
  /** As the kernel tells it of the accepted socket; null where it does not. */
  readonly originalDestination: Address | null;
}

/** The sidecar asks the kernel the same. An IPv4 peer of a dual-stack listener shows as `::ffff:a.b.c.d` and has an IPv4 destination. */
function originalOf(socket: Socket): Address | null {
  // Node shows the descriptor nowhere else.
  const handle: unknown = '_handle' in socket ? socket._handle : null;
  const fd: unknown = typeof handle === 'object' && handle !== null && 'fd' in handle ? handle.fd : null;
  if (typeof fd !== 'number' || fd < 0) return null;
  const remote = socket.remoteAddress ?? '';
  return originalDestination(fd, isIPv6(remote) && !remote.startsWith('::ffff:'));
}

/** Stands in for the sidecar: whoever connects to `port` gets an `Answer`. */
class NonceListener {
  readonly nonce = randomBytes(16).toString('hex');
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      socket.on('error', () => socket.destroy());
      socket.setTimeout(SOCKET_TIMEOUT_MS, () => socket.destroy());
      socket.end(
        `${JSON.stringify({ nonce: this.nonce, originalDestination: originalOf(socket) } satisfies Answer)}\n`,
      );
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  open(port: number): Promise<void> {
    return listen(this.#server, port);
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** The two listeners of a validation. Open them before rules change: a port in use then changes nothing. */
export class ProbeListeners {
  readonly #outbound = new NonceListener();
  readonly #inbound = new NonceListener();

  private constructor() {}

  /** @throws PosternError ERR_INTERCEPT_PORT_IN_USE where a sidecar is there already. */
  static async open(ports: { readonly outboundPort: number; readonly inboundPort: number }): Promise<ProbeListeners> {
    const listeners = new ProbeListeners();
    try {
      await listeners.#outbound.open(ports.outboundPort);
      await listeners.#inbound.open(ports.inboundPort);
    } catch (error) {
      await listeners.close();
      throw error;
    }
    return listeners;
  }

  /** What a connection redirected in that direction must be told. */
  nonce(direction: 'inbound' | 'outbound'): string {
    return direction === 'inbound' ? this.#inbound.nonce : this.#outbound.nonce;
  }

  async close(): Promise<void> {
    await Promise.all([this.#outbound.close(), this.#inbound.close()]);
  }
}
