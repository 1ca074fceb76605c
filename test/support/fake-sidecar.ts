import { once } from 'node:events';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import type { StreamRequest } from '../../mesh/push.ts';
import type { TcpAddress } from './apps.ts';
import { within } from './eventually.ts';
import type { Credentials } from './forge.ts';
import type { Mesh } from './mesh.ts';

/**
 * Registers a workload at the control plane with a real certificate, as a sidecar does, and then is whatever the test wants at its tunnel's
 * address. Registered for as long as it is not closed.
 */
export class FakeSidecar {
  readonly credentials: Credentials;
  readonly #agent: Agent;
  readonly #stream: ClientRequest;

  private constructor(credentials: Credentials, agent: Agent, stream: ClientRequest) {
    this.credentials = credentials;
    this.#agent = agent;
    this.#stream = stream;
  }

  static async register(mesh: Mesh, name: string, address: string, tunnel: TcpAddress): Promise<FakeSidecar> {
    const credentials = await mesh.realCertificate(name);
    const agent = new Agent({
      ...credentials,
      ca: mesh.roots(),
      checkServerIdentity: () => undefined,
      keepAlive: true,
    });
    const body: StreamRequest = {
      workload: {
        name: `${name}-fake`,
        namespace: 'shop',
        serviceAccount: name,
        labels: { app: name },
        addresses: [address],
        tunnel,
        ports: {},
      },
      proxyVersion: 'test',
      resume: null,
    };
    const stream = request({
      agent,
      method: 'POST',
      host: mesh.address,
      port: 15012,
      path: '/v1/stream',
      headers: { 'content-type': 'application/json' },
    });
    stream.on('error', () => undefined);
    stream.end(JSON.stringify(body));
    const [response] = (await within(once(stream, 'response'), 60_000, 'the stream to open')) as [IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`/v1/stream answers ${response.statusCode}`);
    response.on('error', () => undefined);
    response.resume();
    return new FakeSidecar(credentials, agent, stream);
  }

  close(): void {
    this.#stream.destroy();
    this.#agent.destroy();
  }
}
