import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import * as tls from 'node:tls';
import type { TcpAddress } from '../../support/apps.ts';
import { issueLeaf, type Signer } from '../../support/forge.ts';

/** As the sidecar of an Istio workload answers: HTTP over mutual TLS with Istio's ALPN, and no tunnel. */
export class IstioPeer implements TcpAddress {
  readonly address = '127.0.0.1';
  readonly port: number;
  /** ALPN of each connection taken, in order. */
  readonly alpn: string[] = [];
  requests = 0;
  /** Connections that are open. */
  readonly sockets = new Set<tls.TLSSocket>();
  readonly #server: tls.Server;

  private constructor(server: tls.Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('tlsClientError', () => undefined);
  }

  /** @param identity SPIFFE ID of the certificate that it shows */
  static async start(signer: Signer, identity: string): Promise<IstioPeer> {
    const { cert, key } = issueLeaf(signer, { uris: [identity] });
    const server = tls.createServer({
      cert,
      key,
      ca: [signer.root],
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ['istio-h2', 'istio-http/1.1', 'istio'],
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const peer = new IstioPeer(server);
    const http1 = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      peer.requests++;
      request.resume();
      response.end('istio 1.1');
    });
    const h2 = http2.createServer();
    h2.on('stream', (stream: http2.ServerHttp2Stream) => {
      peer.requests++;
      stream.respond({ ':status': 200 });
      stream.end('istio h2');
    });
    h2.on('sessionError', () => undefined);
    server.on('secureConnection', (socket) => {
      const alpn = socket.alpnProtocol === false ? 'none' : (socket.alpnProtocol ?? 'none');
      peer.alpn.push(alpn);
      peer.sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => peer.sockets.delete(socket));
      (alpn === 'istio-h2' ? h2 : http1).emit('connection', socket);
    });
    return peer;
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.sockets) socket.destroy();
    await once(this.#server, 'close');
  }
}
