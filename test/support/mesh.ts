import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CertificateResponse } from '../../mesh/push.ts';
import { Child, type Finished, run } from './child.ts';
import { eventually, within } from './eventually.ts';
import { type Credentials, certificateRequest } from './forge.ts';
import { LoopbackBlock } from './loopback.ts';
import { Metrics } from './prometheus.ts';
import { Sidecar, type WorkloadOptions } from './sidecar.ts';

const POSTERN = fileURLToPath(new URL('../../bin/postern', import.meta.url));
/** In the environment of every process that a mesh starts: what still carries it after `stop` is a leftover. */
const MARK = 'POSTERN_TEST_MESH';

export interface MeshOptions {
  /** File name → YAML. */
  readonly manifests: { readonly [file: string]: string };
  readonly workloads: readonly WorkloadOptions[];
  /** `ttl` of workload certificates, e.g. `10s`. */
  readonly certificates?: { readonly ttl: string };
  /** Further keys of control-plane.yaml. */
  readonly controlPlane?: { readonly [key: string]: unknown };
}

/**
 * A `v1` Service without a virtual IP, selecting `app: <name>` in namespace shop. @param portName declares the protocol, by Istio's convention: `tcp`,
 * `http`, `http2`, `grpc`; any other leaves it to be sniffed
 */
export function serviceManifest(name: string, port: number, targetPort = port, portName = 'tcp'): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop' },
    spec: { clusterIP: 'None', selector: { app: name }, ports: [{ name: portName, port, targetPort }] },
  });
}

export interface PolicySpec {
  readonly name: string;
  /** The `app` label it selects. */
  readonly app: string;
  readonly action?: 'ALLOW' | 'DENY';
  /** Service accounts of namespace shop. */
  readonly from: readonly string[];
  readonly ports?: readonly number[];
  readonly methods?: readonly string[];
  readonly paths?: readonly string[];
}

export function policyManifest({ name, app, action = 'ALLOW', from, ports, methods, paths }: PolicySpec): string {
  const principals = from.map((account) => `cluster.local/ns/shop/sa/${account}`);
  const operation = { ports: ports?.map(String), methods, paths };
  const to = Object.values(operation).every((list) => list === undefined) ? {} : { to: [{ operation }] };
  return JSON.stringify({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { selector: { matchLabels: { app } }, action, rules: [{ from: [{ source: { principals } }], ...to }] },
  });
}

/** Selects `app`, or the whole namespace where that is null. */
export function peerAuthenticationManifest(name: string, app: string | null, mode: string): string {
  return JSON.stringify({
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name, namespace: 'shop' },
    spec: { ...(app === null ? {} : { selector: { matchLabels: { app } } }), mtls: { mode } },
  });
}

/** A control plane and sidecars as real processes, all on loopback addresses that this mesh alone uses. */
export class Mesh {
  readonly directory: string;
  readonly dataDir: string;
  readonly manifests: string;
  readonly address: string;
  readonly #block: LoopbackBlock;
  readonly #sidecars = new Map<string, Sidecar>();
  readonly #started: Child[] = [];
  #controlPlane: Child | null = null;

  private constructor(block: LoopbackBlock, options: MeshOptions) {
    this.#block = block;
    this.address = block.address();
    this.directory = mkdtempSync(join(tmpdir(), 'postern-e2e-'));
    this.dataDir = join(this.directory, 'data');
    this.manifests = join(this.directory, 'manifests');
    mkdirSync(this.manifests);
    for (const [file, text] of Object.entries(options.manifests)) this.editManifest(file, text);
    const ttl = options.certificates?.ttl;
    const config = {
      manifests: './manifests',
      dataDir: './data',
      listen: `${this.address}:15012`,
      adminListen: `${this.address}:15014`,
      trustDomain: 'cluster.local',
      ...(ttl === undefined ? {} : { certificates: { ttl, minTtl: '1s' } }),
      ...options.controlPlane,
    };
    writeFileSync(join(this.directory, 'control-plane.yaml'), JSON.stringify(config, null, 2));
  }

  static async start(options: MeshOptions): Promise<Mesh> {
    const mesh = new Mesh(await LoopbackBlock.take(), options);
    try {
      await mesh.startControlPlane();
      await Promise.all(options.workloads.map((workload) => mesh.addWorkload(workload)));
      return mesh;
    } catch (thrown) {
      await mesh.stop();
      throw thrown;
    }
  }

  get controlPlane(): Child {
    if (this.#controlPlane === null) throw new Error('the control plane was not started');
    return this.#controlPlane;
  }

  get caFile(): string {
    return join(this.dataDir, 'ca.pem');
  }

  /** PEM of the roots that are trusted now. */
  roots(): string {
    return readFileSync(this.caFile, 'utf8');
  }

  /** A loopback address that nothing of this mesh uses. */
  newAddress(): string {
    return this.#block.address();
  }

  workload(name: string): Sidecar {
    const sidecar = this.#sidecars.get(name);
    if (sidecar === undefined) throw new Error(`no workload ${name}`);
    return sidecar;
  }

  async startControlPlane(): Promise<void> {
    const args = ['control-plane', '--config', join(this.directory, 'control-plane.yaml')];
    const child = Child.start('control plane', POSTERN, args, { [MARK]: this.directory });
    this.#controlPlane = child;
    this.#started.push(child);
    const failed = (cause: unknown): never => {
      throw new Error(`the control plane is not ready; ${child.tail()}`, { cause });
    };
    const ready = async (): Promise<boolean> =>
      !child.alive || (await fetch(`http://${this.address}:15014/healthz/ready`)).ok;
    await eventually(ready, { what: 'the control plane to be ready', everyMs: 50 }).catch(failed);
    if (!child.alive) failed('it ended');
  }

  async controlPlaneMetrics(): Promise<Metrics> {
    return new Metrics(await (await fetch(`http://${this.address}:15014/metrics`)).text());
  }

  /** Writes whole or not at all, as careful editors do. */
  editManifest(file: string, text: string): void {
    const aside = join(this.directory, `${file}.new`);
    writeFileSync(aside, text);
    renameSync(aside, join(this.manifests, file));
  }

  removeManifest(file: string): void {
    rmSync(join(this.manifests, file));
  }

  /** Runs the command line of this mesh's control plane to its end. */
  async postern(...args: readonly string[]): Promise<Finished> {
    return await run(POSTERN, args, 60_000);
  }

  async createToken(namespace: string, serviceAccount: string, output: string): Promise<void> {
    const identity = ['--namespace', namespace, '--service-account', serviceAccount];
    const done = await this.postern('token', 'create', ...identity, '--data-dir', this.dataDir, '--output', output);
    if (done.code !== 0) throw new Error(`token create ended with ${done.code}: ${done.stderr}${done.stdout}`);
  }

  /** Starts one more workload and waits until it is ready. */
  async addWorkload(options: WorkloadOptions): Promise<Sidecar> {
    const sidecar = new Sidecar(options, {
      directory: this.directory,
      postern: POSTERN,
      controlPlane: `https://${this.address}:15012`,
      caFile: this.caFile,
      address: this.#block.address(),
      environment: { [MARK]: this.directory },
    });
    this.#sidecars.set(options.name, sidecar);
    await this.createToken(sidecar.namespace, sidecar.serviceAccount, sidecar.tokenFile);
    await this.startSidecar(options.name);
    return sidecar;
  }

  /** A sidecar again, with a new join token where it needs one: its key died with the process before. */
  async startSidecar(name: string, { newToken = false } = {}): Promise<void> {
    const sidecar = this.workload(name);
    if (newToken) {
      rmSync(sidecar.tokenFile, { force: true });
      await this.createToken(sidecar.namespace, sidecar.serviceAccount, sidecar.tokenFile);
    }
    sidecar.start();
    this.#started.push(sidecar.process);
    await sidecar.waitReady();
  }

  /** What a hostile peer gets who holds a join token: a real certificate of the mesh. */
  async realCertificate(serviceAccount: string, namespace = 'shop'): Promise<Credentials> {
    const tokenFile = join(this.directory, `peer-${serviceAccount}-${Date.now()}.token`);
    await this.createToken(namespace, serviceAccount, tokenFile);
    const { csr, key } = certificateRequest();
    const token = readFileSync(tokenFile, 'utf8').trim();
    const { chain } = await this.#post<CertificateResponse>('/v1/certificates', token, { csr });
    return { cert: chain, key };
  }

  /** Ends every process, removes the directory, and throws where anything is left or had to be killed. */
  async stop(): Promise<void> {
    const stubborn: string[] = [];
    const end = async (child: Child): Promise<void> => {
      if (!(await child.stop(8_000))) stubborn.push(`${child.name} had to be killed; ${child.tail()}`);
    };
    await Promise.all(this.#started.filter((child) => child !== this.#controlPlane).map(end));
    if (this.#controlPlane !== null) await end(this.#controlPlane);
    const left = markedProcesses(this.directory);
    for (const pid of left) process.kill(pid, 'SIGKILL');
    this.#block.release();
    rmSync(this.directory, { recursive: true, force: true });
    if (left.length > 0) stubborn.push(`processes were left: ${left.join(', ')}`);
    if (stubborn.length > 0) throw new Error(stubborn.join('\n'));
  }

  async #post<T>(path: string, bearer: string, body: unknown): Promise<T> {
    const options = {
      method: 'POST',
      host: this.address,
      port: 15012,
      path,
      ca: this.roots(),
      checkServerIdentity: () => undefined,
      headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
    };
    const answered = new Promise<T>((resolve, reject) => {
      const call = request(options, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          if (response.statusCode === 200) resolve(JSON.parse(text) as T);
          else reject(new Error(`${path} answers ${response.statusCode}: ${text}`));
        });
      });
      call.on('error', reject);
      call.end(JSON.stringify(body));
    });
    return await within(answered, 60_000, path);
  }
}

/** Processes whose environment carries the mark of this mesh; those of other users cannot be read and are not ours. */
function markedProcesses(directory: string): number[] {
  const mark = `${MARK}=${directory}\0`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark);
      } catch {
        return false;
      }
    })
    .map(Number);
}
