import type { Resource, ServiceResource, WorkloadResource } from '../../../mesh/resources.ts';
import type { TcpAddress } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { foreignAuthority, type Signer } from '../../support/forge.ts';
import type { Http1Handler } from '../../support/http-apps.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { type DataPlaneOptions, DataPlaneThread, meshConfig, trustBundle } from '../support/data-plane.ts';
import { workloadResource } from '../support/workload-resource.ts';

/** A line of the access log that tells of a request. */
export interface RequestLine {
  readonly protocol: 'http' | 'grpc';
  readonly direction: string;
  readonly verdict: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly flags: string;
  readonly detail: string;
  readonly attempts: number;
  readonly transport: string;
  readonly service: string | null;
  readonly requestId: string | null;
  readonly destination: { readonly workload: string; readonly principal: string | null };
}

/** What a service of the tests looks like. */
export interface ServiceShape {
  /** As the port declares it; null: to be sniffed. */
  readonly protocol?: string | null;
  /** Name of a workload → its port. */
  readonly endpoints: { readonly [workload: string]: number };
}

export const PORT = 80;

/** The service `shop/orders`. */
export function orders({ protocol = null, endpoints }: ServiceShape): ServiceResource {
  return {
    kind: 'Service',
    name: 'shop/orders',
    namespace: 'shop',
    hostname: 'orders.shop.svc.cluster.local',
    addresses: [],
    ports: [{ name: 'main', port: PORT, protocol }],
    endpoints: Object.entries(endpoints).map(([name, port]) => ({
      workload: `shop/${name}`,
      ports: { [String(PORT)]: port },
    })),
  };
}

/** A workload without a sidecar, on this machine. */
export const plainWorkload = (name: string): WorkloadResource =>
  workloadResource(name, '127.0.0.1', { identity: null, protocol: 'NONE' });

/** An application that says one thing. */
export const say = (text: string): Http1Handler => {
  return (request, response) => {
    request.resume();
    response.end(text);
  };
};

export type Limits = Pick<DataPlaneOptions, 'http' | 'limits' | 'opaquePorts'>;

/** The sidecar of a client that calls `shop/orders`, whose endpoints have none: the outbound path alone. */
export class OutboundMesh {
  readonly client: DataPlaneThread;
  readonly signer: Signer;
  readonly #block: LoopbackBlock;

  private constructor(client: DataPlaneThread, signer: Signer, block: LoopbackBlock) {
    this.client = client;
    this.signer = signer;
    this.#block = block;
  }

  static async start(shape: ServiceShape, limits: Limits = {}): Promise<OutboundMesh> {
    const block = await LoopbackBlock.take();
    const signer = foreignAuthority();
    const upstreams = [{ service: 'shop/orders', port: PORT }];
    const client = await DataPlaneThread.start({ name: 'frontend', address: block.address(), upstreams, ...limits });
    const mesh = new OutboundMesh(client, signer, block);
    client.identify(signer);
    await client.push(meshConfig(), trustBundle(signer), client.workload);
    await mesh.serve(shape);
    return mesh;
  }

  /** Makes the service so from now on. */
  async serve(shape: ServiceShape): Promise<void> {
    const workloads = Object.keys(shape.endpoints).map(plainWorkload);
    await this.push(...workloads, orders(shape));
  }

  async push(...resources: readonly Resource[]): Promise<void> {
    await this.client.push(...resources);
  }

  /** Where the application dials. */
  get entry(): TcpAddress {
    return this.client.upstream;
  }

  /** The first `count` requests that ended, in order of their ends. */
  async requests(count: number): Promise<readonly RequestLine[]> {
    return await requestsOf(this.client, count);
  }

  async stop(): Promise<void> {
    await this.client.stop();
    this.#block.release();
  }
}

/** The first `count` requests that the sidecar's access log tells of, in order of their ends. */
export async function requestsOf(plane: DataPlaneThread, count: number): Promise<readonly RequestLine[]> {
  const lines = (): readonly RequestLine[] =>
    (plane.access as unknown as readonly RequestLine[]).filter(({ protocol }) => protocol !== undefined);
  await eventually(() => lines().length >= count, { what: `${count} requests in the access log` });
  return lines().slice(0, count);
}
