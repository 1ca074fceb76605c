import { X509Certificate } from 'node:crypto';
import type { Resource, WorkloadResource } from '../../../mesh/resources.ts';
import { WorkerHandle } from '../../../proxy/control/worker-handle.ts';
import type { FromWorker, ToWorker, WorkerConfig } from '../../../proxy/worker/messages.ts';
import type { TcpAddress } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { issueLeaf, type Signer } from '../../support/forge.ts';
import { HTTP_LIMITS } from './http-limits.ts';
import { workloadResource } from './workload-resource.ts';

export interface AccessLine {
  readonly direction: 'inbound' | 'outbound';
  readonly flags: string;
  readonly detail: string;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly attempts?: number;
  readonly tls: { readonly resumed: boolean } | null;
}

export interface DataPlaneOptions {
  readonly name: string;
  readonly address: string;
  readonly expose?: WorkerConfig['expose'];
  /** Service `<namespace>/<name>` and port; listened for at port 7401 and up. */
  readonly upstreams?: readonly { readonly service: string; readonly port: number }[];
  readonly limits?: Partial<WorkerConfig['limits']>;
  readonly http?: Partial<WorkerConfig['http']>;
  readonly opaquePorts?: readonly number[];
  readonly tracing?: WorkerConfig['tracing'];
}

const SERVICE_ACCOUNT_URI = (name: string): string => `spiffe://cluster.local/ns/shop/sa/${name}`;
export const TUNNEL_PORT = 15_008;
export const UPSTREAM_PORT = 7_401;

/** A data-plane worker in a thread of the test, which plays the control thread: everything but processes and a control plane. */
export class DataPlaneThread {
  readonly name: string;
  readonly address: string;
  readonly access: AccessLine[] = [];
  readonly errors: string[] = [];
  readonly messages: FromWorker[] = [];
  readonly ended: Promise<number>;
  readonly #handle: WorkerHandle;
  readonly #series = new Map<
    number,
    { readonly metric: string; readonly labels: { readonly [label: string]: string } }
  >();
  #version = 0;

  private constructor(options: DataPlaneOptions) {
    const { name, address } = options;
    this.name = name;
    this.address = address;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    const config: WorkerConfig = {
      index: 0,
      workload: { name, namespace: 'shop', serviceAccount: name, labels: { app: name }, addresses: [address] },
      inbound: { listen: null, tunnel: { address, port: TUNNEL_PORT } },
      outbound: { listen: null, mark: 0 },
      expose: options.expose ?? [],
      upstreams: (options.upstreams ?? []).map((upstream, i) => ({
        ...upstream,
        listen: { address, port: UPSTREAM_PORT + i },
      })),
      controlPlane: [],
      ownPorts: [],
      accessLog: 'on',
      logLevel: 'debug',
      limits: {
        maxConnections: 10_000,
        connectTimeoutMs: 10_000,
        handshakeTimeoutMs: 10_000,
        peekTimeoutMs: 5_000,
        idleTimeoutMs: 3_600_000,
        tunnelIdleTimeoutMs: 300_000,
        bufferBytes: 262_144,
        maxStreamsPerTunnel: 100,
        ...options.limits,
      },
      http: { ...HTTP_LIMITS, ...options.http },
      opaquePorts: options.opaquePorts ?? [],
      tracing: options.tracing ?? null,
    };
    this.#handle = new WorkerHandle(new URL('../../../proxy/worker/worker.ts', import.meta.url), config, {
      onMessage: (_, message) => this.#receive(message),
      onEnd: (_, cause, descriptors) => {
        if (!['terminated', 'exit code 0'].includes(cause)) this.errors.push(cause);
        resolve(descriptors);
      },
    });
  }

  static async start(options: DataPlaneOptions): Promise<DataPlaneThread> {
    const made = new DataPlaneThread(options);
    await eventually(() => made.#handle.ready || made.errors.length > 0, { what: 'the worker to be ready' });
    if (made.errors.length > 0) throw new Error(made.errors.join('\n'));
    return made;
  }

  #receive(message: FromWorker): void {
    this.messages.push(message);
    if (message.type === 'series') this.#series.set(message.slot, message);
    else if (message.type === 'series-dropped') for (const slot of message.slots) this.#series.delete(slot);
    else if (message.type === 'log' && message.level === 'error') this.errors.push(JSON.stringify(message));
    else if (message.type === 'access') {
      for (const line of message.lines.trimEnd().split('\n')) this.access.push(JSON.parse(line) as AccessLine);
    }
  }

  get identity(): string {
    return SERVICE_ACCOUNT_URI(this.name);
  }

  /** Where an application dials for the first of the upstreams. */
  get upstream(): TcpAddress {
    return { address: this.address, port: UPSTREAM_PORT };
  }

  get workload(): WorkloadResource {
    const { name, address, identity } = this;
    return workloadResource(name, address, { identity, tunnel: { address, port: TUNNEL_PORT } });
  }

  send(message: ToWorker): void {
    this.#handle.send(message);
  }

  /** A new key and certificate. */
  identify(signer: Signer): void {
    const { cert, key } = issueLeaf(signer, { uris: [this.identity] });
    const notAfter = new X509Certificate(cert).validToDate.getTime();
    this.send({ type: 'identity', spiffeId: this.identity, chain: cert, privateKey: key, notAfter });
  }

  /** Pushes resources and waits until they are in force. */
  async push(...upserts: readonly Resource[]): Promise<void> {
    const version = String(++this.#version);
    this.send({ type: 'resources', version, full: false, upserts, removes: [] });
    const applied = await eventually(
      () => this.messages.find((message) => message.type === 'applied' && message.version === version),
      { what: 'the resources to be applied' },
    );
    if (applied.type === 'applied' && applied.rejected.length > 0) throw new Error(JSON.stringify(applied.rejected));
  }

  async query(what: 'connections' | 'resources'): Promise<unknown> {
    return await this.#handle.query(what);
  }

  /** The sum of a metric's series with these labels. */
  metric(name: string, labels: { readonly [label: string]: string } = {}): number {
    let sum = 0;
    for (const [slot, series] of this.#series) {
      if (series.metric !== name) continue;
      if (Object.entries(labels).some(([label, value]) => series.labels[label] !== value)) continue;
      sum += this.#handle.counters[slot] ?? 0;
    }
    return sum;
  }

  /** Ends the thread; throws where it had to say of a bug. */
  async stop(): Promise<void> {
    await within(this.#handle.terminate(), 60_000, `${this.name} to end`);
    if (this.errors.length > 0) throw new Error(`${this.name}: ${this.errors.join('\n')}`);
  }
}

export function meshConfig(): Resource {
  return {
    kind: 'MeshConfig',
    name: 'mesh',
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    rootNamespace: 'istio-system',
    outboundTrafficPolicy: 'REGISTRY_ONLY',
    defaultAction: 'ALLOW',
    pathNormalization: 'BASE',
    extensionProviders: [],
  };
}

export const trustBundle = (...signers: readonly Signer[]): Resource => ({
  kind: 'TrustBundle',
  name: 'roots',
  roots: signers.map(({ root }) => root),
});

/** A service on port 80 whose endpoints are these workloads at this port. */
export function serviceOf(name: string, port: number, workloads: readonly WorkloadResource[]): Resource {
  return {
    kind: 'Service',
    name: `shop/${name}`,
    namespace: 'shop',
    hostname: `${name}.shop.svc.cluster.local`,
    addresses: [],
    ports: [{ name: 'tcp', port: 80, protocol: null }],
    endpoints: workloads.map(({ name: workload }) => ({ workload, ports: { '80': port } })),
  };
}
