import { once } from 'node:events';
import * as http2 from 'node:http2';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { TcpAddress } from '../../support/apps.ts';
import { within } from '../../support/eventually.ts';
import type { Credentials } from '../../support/forge.ts';

export interface Refusal {
  readonly status: number;
  readonly reason: string | null;
}

/** The client's end of a tunnel, of Node's own HTTP/2: each connection to `address:port` becomes a CONNECT stream. */
export class TunnelEntry implements TcpAddress {
  readonly address = '127.0.0.1';
  readonly port: number;
  /** CONNECTs that were answered by something other than 200. */
  readonly refusals: Refusal[] = [];
  readonly session: http2.ClientHttp2Session;
  readonly #authority: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(session: http2.ClientHttp2Session, server: Server, authority: string) {
    this.session = session;
    this.#authority = authority;
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket) => this.#carry(socket));
  }

  /** @param authority where the streams go */
  static async open(tunnel: TcpAddress, identity: Credentials, authority: string): Promise<TunnelEntry> {
    const session = http2.connect(`https://${tunnel.address}:${tunnel.port}`, {
      ...identity,
      // Who the server is, is not what these tests are about.
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
    });
    session.on('error', () => undefined);
    await within(once(session, 'connect'), 60_000, 'the tunnel');
    const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TunnelEntry(session, server, authority);
  }

  #carry(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    if (this.session.closed || this.session.destroyed) {
      socket.resetAndDestroy();
      return;
    }
    const stream = this.session.request({ ':method': 'CONNECT', ':authority': this.#authority });
    stream.on('response', (headers) => {
      const status = Number(headers[':status']);
      if (status === 200) return;
      this.refusals.push({ status, reason: headers['x-postern-reason']?.toString() ?? null });
      socket.resetAndDestroy();
    });
    stream.on('error', () => socket.resetAndDestroy());
    stream.on('close', () => {
      if (stream.rstCode !== 0) socket.resetAndDestroy();
    });
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (!stream.closed && !stream.writableFinished) stream.close(http2.constants.NGHTTP2_CANCEL);
    });
    socket.pipe(stream).pipe(socket);
  }

  async close(): Promise<void> {
    this.session.destroy();
    for (const socket of this.#sockets) socket.destroy();
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }
}
