import { once } from 'node:events';
import * as http2 from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { WorkloadResource } from '../../../mesh/resources.ts';
import type { TcpAddress } from '../../support/apps.ts';
import { issueLeaf, type Signer } from '../../support/forge.ts';
import { plainWorkload } from './outbound-mesh.ts';

/** Another sidecar's tunnel port that answers every CONNECT with one status, or never. */
export class TunnelPeer implements TcpAddress {
  readonly name: string;
  readonly address = '127.0.0.1';
  readonly port: number;
  /** CONNECTs that came. */
  asked = 0;
  readonly #server: http2.Http2SecureServer;
  readonly #sockets = new Set<Socket>();

  private constructor(name: string, server: http2.Http2SecureServer) {
    this.name = name;
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('secureConnection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
    });
  }

  /** @param status null: never */
  static async start(signer: Signer, name: string, status: number | null): Promise<TunnelPeer> {
    const { cert, key } = issueLeaf(signer, { uris: [identityOf(name)] });
    const server = http2.createSecureServer({ cert, key, ca: [signer.root], requestCert: true });
    server.on('sessionError', () => undefined);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const peer = new TunnelPeer(name, server);
    server.on('stream', (stream: http2.ServerHttp2Stream) => {
      peer.asked++;
      stream.on('error', () => undefined);
      if (status !== null) stream.respond({ ':status': status, 'x-postern-reason': 'as told' }, { endStream: true });
    });
    return peer;
  }

  get workload(): WorkloadResource {
    const { address, port, name } = this;
    return { ...plainWorkload(name), protocol: 'HBONE', identity: identityOf(name), tunnel: { address, port } };
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }
}

const identityOf = (name: string): string => `spiffe://cluster.local/ns/shop/sa/${name}`;
