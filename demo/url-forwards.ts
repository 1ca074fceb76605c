import { connect, createServer, type Server } from 'node:net';
import { pipeBothWays } from './pipe-both-ways.ts';
import { PORTS, WORKLOAD_NAMES } from './workloads.ts';

/** A port in a namespace, and the port of this machine's loopback interface at which the user reaches it where that is free. */
interface Forward {
  readonly place: string;
  readonly port: number;
  readonly preferred: number;
}

const FORWARDS: readonly Forward[] = [
  ...WORKLOAD_NAMES.flatMap((place, i) => [
    { place, port: PORTS.admin, preferred: 15100 + 100 * i },
    { place, port: PORTS.metrics, preferred: 15120 + 100 * i },
  ]),
  { place: 'control-plane', port: PORTS.controlPlaneAdmin, preferred: 15414 },
];

/** Ports of a place that are made reachable as Unix sockets. */
export const DOOR_PORTS: { readonly [kind in 'workload' | 'control-plane']: readonly number[] } = {
  workload: [PORTS.admin, PORTS.metrics, PORTS.health],
  'control-plane': [PORTS.controlPlaneAdmin],
};

export const doorPath = (runDirectory: string, place: string, port: number): string =>
  `${runDirectory}/${place}-${port}.sock`;

/** `place-port` → port on the loopback interface. */
export type ForwardedPorts = { readonly [door: string]: number };

/** TCP listeners for the user's browser and curl, each joined to a Unix socket that a process in the namespace serves. */
export class UrlForwards {
  readonly ports: ForwardedPorts;
  readonly #servers: readonly Server[];

  private constructor(ports: ForwardedPorts, servers: readonly Server[]) {
    this.ports = ports;
    this.#servers = servers;
  }

  static async open(runDirectory: string): Promise<UrlForwards> {
    const ports: { [door: string]: number } = {};
    const servers: Server[] = [];
    for (const { place, port, preferred } of FORWARDS) {
      const path = doorPath(runDirectory, place, port);
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        pipeBothWays(socket, connect({ path, allowHalfOpen: true }));
      });
      servers.push(server);
      ports[`${place}-${port}`] = (await listen(server, preferred)) ?? (await listen(server, 0)) ?? 0;
    }
    return new UrlForwards(ports, servers);
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }
}

/** @returns the port; null where it is taken. */
async function listen(server: Server, port: number): Promise<number | null> {
  return await new Promise((resolve) => {
    const onError = (): void => resolve(null);
    server.once('error', onError);
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      server.off('error', onError);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : null);
    });
  });
}
