import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Contender, type Endpoint, hostPort } from './contender.ts';
import { answersOk, fetchOnce } from './http.ts';
import { CLIENT_LABELS, type ManifestObject, NAMESPACE, SERVER_LABELS, SERVICE } from './mesh-manifests.ts';
import { freePort } from './ports.ts';
import type { RunningProcess } from './processes.ts';
import type { Workbench } from './workbench.ts';

const POSTERN = join(import.meta.dirname, '..', '..', 'bin', 'postern');
const START_MS = 30_000;
const TOKEN_MS = 20_000;

type Role = 'client' | 'server';

/** Addresses of their own on loopback, so that the two workloads are told apart as two pods would be. */
const ADDRESSES = { server: '127.0.0.2', client: '127.0.0.3' } as const;

interface Sidecar {
  readonly process: RunningProcess;
  readonly health: Endpoint;
  readonly metrics: Endpoint;
  readonly accessLog: string;
}

/** What the two sidecars are to do. */
export interface PosternSetup {
  /** Service and policies. */
  readonly manifests: readonly ManifestObject[];
  /** The service's ports and the application behind each; the first is the contender's `clientAddress`. */
  readonly ports: readonly { readonly port: number; readonly application: Endpoint }[];
  readonly accessLog: 'on' | 'denied';
  readonly probePath: string;
  /** What the metrics of the two sidecars must show once requests have passed: a proxy that skips the work would win. */
  readonly counted: { readonly client: RegExp; readonly server: RegExp };
}

/**
 * Postern as it would run: a control plane (idle, on the load core) and two sidecars with policies, metrics and access log.
 * The access log goes to a file through stdout.
 */
export class PosternContender implements Contender {
  readonly name = 'Postern';
  readonly #bench: Workbench;
  readonly #setup: PosternSetup;
  #addresses: readonly Endpoint[] = [];
  #controlPlane: RunningProcess | null = null;
  #sidecars: readonly [client: Sidecar, server: Sidecar] | null = null;

  constructor(bench: Workbench, setup: PosternSetup) {
    this.#bench = bench;
    this.#setup = setup;
  }

  get clientAddress(): Endpoint {
    return this.addressOf(0);
  }

  /** Where the service's port of that index in the setup is reached. */
  addressOf(index: number): Endpoint {
    const address = this.#addresses[index];
    if (address === undefined) throw new Error('Postern is not started');
    return address;
  }

  /** What the server's sidecar has logged since the last `settle`. */
  serverLog(): string {
    const server = this.#sidecars?.[1];
    return server === undefined ? '' : readFileSync(server.accessLog, 'utf8');
  }

  get pids(): readonly [number, number] {
    if (this.#sidecars === null) throw new Error('Postern is not started');
    return [this.#sidecars[0].process.pid, this.#sidecars[1].process.pid];
  }

  async start(): Promise<void> {
    mkdirSync(this.#bench.path('postern'));
    const controlPlane = await this.#startControlPlane();
    const { ports, probePath } = this.#setup;
    const listeners: { readonly at: Endpoint; readonly port: number }[] = [];
    for (const { port } of ports) listeners.push({ at: { address: '127.0.0.1', port: await freePort() }, port });
    const tunnel = { address: ADDRESSES.server, port: await freePort(ADDRESSES.server) };
    const server = await this.#startSidecar('server', controlPlane, tunnel, {
      expose: ports.map(({ port, application }) => ({ port, application: hostPort(application) })),
    });
    const clientTunnel = { address: ADDRESSES.client, port: await freePort(ADDRESSES.client) };
    const clientSide = await this.#startSidecar('client', controlPlane, clientTunnel, {
      upstreams: listeners.map(({ at, port }) => ({
        listen: hostPort(at),
        service: `${SERVICE}.${NAMESPACE}:${port}`,
      })),
    });
    this.#sidecars = [clientSide, server];
    this.#addresses = listeners.map(({ at }) => at);
    await this.#bench.until('Postern relays', START_MS, async () => {
      await this.settle();
      return await answersOk(this.clientAddress, probePath);
    });
    await this.#assertAsAdvertised(clientSide, server);
  }

  /** Empties the access logs, which grow by a line for each connection: the disk is not what is measured. */
  settle(): Promise<void> {
    this.#controlPlane?.assertRunning();
    for (const sidecar of this.#sidecars ?? []) {
      sidecar.process.assertRunning();
      truncateSync(sidecar.accessLog);
    }
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    await Promise.all((this.#sidecars ?? []).map((sidecar) => sidecar.process.stop()));
    await this.#controlPlane?.stop();
  }

  async #startControlPlane(): Promise<Endpoint> {
    const directory = this.#bench.path('postern', 'control-plane');
    mkdirSync(join(directory, 'manifests'), { recursive: true });
    const documents = this.#setup.manifests.map((object) => JSON.stringify(object, null, 1)).join('\n---\n');
    writeFileSync(join(directory, 'manifests', 'mesh.yaml'), `${documents}\n`);
    const listen = { address: '127.0.0.1', port: await freePort() };
    const admin = { address: '127.0.0.1', port: await freePort() };
    const config = this.#writeConfig('control-plane', {
      manifests: './control-plane/manifests',
      dataDir: './control-plane/data',
      listen: hostPort(listen),
      adminListen: hostPort(admin),
      trustDomain: 'cluster.local',
      // Both workloads live on loopback, where a connection shows 127.0.0.1 whatever address the workload has.
      trustedAddresses: ['127.0.0.0/8'],
    });
    const controlPlane = this.#bench.processes.start({
      name: "Postern's control plane",
      command: POSTERN,
      args: ['control-plane', '--config', config],
      core: this.#bench.cores.load,
      stderr: this.#bench.path('postern', 'control-plane.stderr'),
    });
    this.#controlPlane = controlPlane;
    await this.#bench.until("Postern's control plane is ready", START_MS, async () => {
      controlPlane.assertRunning();
      return await answersOk(admin, '/healthz/ready');
    });
    return listen;
  }

  async #startSidecar(role: Role, controlPlane: Endpoint, tunnel: Endpoint, paths: object): Promise<Sidecar> {
    const at = async (): Promise<Endpoint> => ({ address: '127.0.0.1', port: await freePort() });
    const [admin, metrics, health] = [await at(), await at(), await at()];
    const config = this.#writeConfig(role, {
      workload: {
        name: `${role}-1`,
        namespace: NAMESPACE,
        serviceAccount: role,
        labels: role === 'server' ? SERVER_LABELS : CLIENT_LABELS,
        addresses: [tunnel.address],
      },
      controlPlane: {
        address: `https://${hostPort(controlPlane)}`,
        caFile: this.#authority,
        joinTokenFile: await this.#createToken(role),
      },
      inbound: { tunnel: hostPort(tunnel) },
      ...paths,
      admin: { listen: hostPort(admin) },
      metrics: { listen: hostPort(metrics) },
      health: { listen: hostPort(health) },
      workers: 1,
      accessLog: this.#setup.accessLog,
    });
    const accessLog = this.#bench.path('postern', `${role}.stdout`);
    const running = this.#bench.processes.start({
      name: `Postern's ${role} sidecar`,
      command: POSTERN,
      args: ['proxy', '--config', config],
      core: this.#bench.cores.proxies,
      stdout: accessLog,
      stderr: this.#bench.path('postern', `${role}.stderr`),
    });
    await this.#bench.until(`Postern's ${role} sidecar is ready`, START_MS, async () => {
      running.assertRunning();
      return await answersOk(health, '/healthz/ready');
    });
    return { process: running, health, metrics, accessLog };
  }

  async #createToken(role: Role): Promise<string> {
    const file = this.#bench.path('postern', `${role}.token`);
    const identity = ['--namespace', NAMESPACE, '--service-account', role];
    const data = this.#bench.path('postern', 'control-plane', 'data');
    await this.#bench.processes.run(
      {
        name: 'postern token create',
        command: POSTERN,
        args: ['token', 'create', ...identity, '--data-dir', data, '--output', file],
        core: this.#bench.cores.load,
        stderr: this.#bench.path('postern', 'token.stderr'),
      },
      TOKEN_MS,
    );
    return file;
  }

  get #authority(): string {
    return this.#bench.path('postern', 'control-plane', 'data', 'ca.pem');
  }

  #writeConfig(name: string, config: object): string {
    const file = this.#bench.path('postern', `${name}.yaml`);
    writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`);
    return file;
  }

  /**
   * What is compared must be mutual TLS, counted and logged. Istio's source reporter does not know the security policy (it says `unknown`),
   * so that part is asked of the server's sidecar.
   */
  async #assertAsAdvertised(client: Sidecar, server: Sidecar): Promise<void> {
    const { counted, accessLog, probePath } = this.#setup;
    for (const { sidecar, series } of [
      { sidecar: client, series: counted.client },
      { sidecar: server, series: counted.server },
    ]) {
      const { name } = sidecar.process;
      await this.#bench.until(`${name} counts what passes (mutual TLS) and logs it`, 10_000, async () => {
        sidecar.process.assertRunning();
        await answersOk(this.clientAddress, probePath);
        const { body } = await fetchOnce(sidecar.metrics, '/metrics');
        const logged = accessLog !== 'on' || hasAccessLine(readFileSync(sidecar.accessLog, 'utf8'));
        return series.test(body) && logged;
      });
    }
  }
}

/** A line that names both identities can only be a connection's: whatever else a sidecar logs is about itself. */
function hasAccessLine(log: string): boolean {
  return log
    .split('\n')
    .some((line) => ['client', 'server'].every((role) => line.includes(`/ns/${NAMESPACE}/sa/${role}"`)));
}
