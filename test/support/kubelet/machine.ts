import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../../../demo/network.ts';
import { Child, type Finished, finish } from '../child.ts';
import { eventually } from '../eventually.ts';
import { REPOSITORY } from './container-plan.ts';
import type { Attempt, Outcome } from './intruder.ts';

export interface MachineOptions {
  readonly host: Host;
  /** Its own. */
  readonly directory: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Port of the mesh, by which its application is reached. */
  readonly port: number;
  /** `server.shop:80` */
  readonly upstream: string;
}

const APPLICATION = '127.0.0.1:9000';
const UPSTREAM_PORT = 7401;

/** A machine outside of the cluster, on its network: an application, and a sidecar that is run as on any machine, from a file. */
export class Machine {
  readonly host: Host;
  readonly #options: MachineOptions;
  readonly #app: Child;
  #sidecar: Child | null = null;

  constructor(options: MachineOptions) {
    const { host, directory } = options;
    this.host = host;
    this.#options = options;
    mkdirSync(directory, { recursive: true });
    const argv = [join(REPOSITORY, 'test/support/kubelet/app.ts'), 'serve', APPLICATION.replace(/.*:/, '')];
    const env = { ...process.env, HOSTNAME: options.name };
    this.#app = new Child(`application of ${options.name}`, host.exec([process.execPath, ...argv], { env }));
  }

  get sidecar(): Child {
    if (this.#sidecar === null) throw new Error(`${this.#options.name} has not joined`);
    return this.#sidecar;
  }

  /** Lines that its sidecar has logged with these words. */
  logged(words: string): readonly string[] {
    return this.sidecar.stdout.filter((line) => line.includes(words));
  }

  /** Starts the sidecar. @param controlPlane its origin @param roots PEM */
  join(controlPlane: string, roots: string, token: string): void {
    const { host, directory, name, namespace, serviceAccount, port, upstream } = this.#options;
    writeFileSync(join(directory, 'ca.pem'), roots);
    this.useToken(token);
    const config = {
      workload: { name, namespace, serviceAccount },
      controlPlane: { address: controlPlane, caFile: './ca.pem', joinTokenFile: './token' },
      inbound: { tunnel: '0.0.0.0:15008' },
      expose: [{ port, application: APPLICATION }],
      upstreams: [{ listen: `${host.ipv4}:${UPSTREAM_PORT}`, service: upstream }],
    };
    const file = join(directory, 'proxy.yaml');
    writeFileSync(file, JSON.stringify(config));
    const argv = [join(REPOSITORY, 'bin/postern'), 'proxy', '--config', file];
    this.#sidecar = new Child(`sidecar of ${name}`, host.exec(argv));
  }

  /** Puts it where the sidecar looks for one. */
  useToken(token: string): void {
    writeFileSync(join(this.#options.directory, 'token'), `${token}\n`, { mode: 0o600 });
  }

  async ready(): Promise<void> {
    const { name } = this.#options;
    const isReady = async (): Promise<boolean> => {
      if (!this.sidecar.alive || !this.#app.alive) throw new Error('it ended');
      return await this.isReady();
    };
    const failed = (cause: unknown): never => {
      throw new Error(`${name} is not ready; ${this.sidecar.tail()}`, { cause });
    };
    await eventually(isReady, { what: `${name} to be ready`, timeoutMs: 60_000, everyMs: 50 }).catch(failed);
  }

  /** By its health port, on which certificate and push count. */
  async isReady(): Promise<boolean> {
    return await fetch(`http://${this.host.ipv4}:15021/healthz/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  /** A request of its application to the upstream. 0: there was no answer. */
  async get(path: string): Promise<{ readonly status: number; readonly body: string }> {
    const url = `http://${this.host.ipv4}:${UPSTREAM_PORT}${path}`;
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(5_000), headers: { connection: 'close' } });
      return { status: response.status, body: await response.text() };
    } catch (error) {
      return { status: 0, body: String(error) };
    }
  }

  async until(path: string, status: number, timeoutMs = 20_000): Promise<void> {
    const check = async (): Promise<boolean> => (await this.get(path)).status === status;
    await eventually(check, { what: `${status} for ${path} from ${this.#options.name}`, timeoutMs, everyMs: 20 });
  }

  /** What a program on the machine tries at the control plane. */
  async intrude(origin: string, ...attempts: readonly Attempt[]): Promise<readonly Outcome[]> {
    const script = join(REPOSITORY, 'test/support/kubelet/intruder.ts');
    const words = [process.execPath, script, origin, ...attempts.map((attempt) => JSON.stringify(attempt))];
    return outcomesOf(await finish(new Child('intruder', this.host.exec(words)), 60_000));
  }
}

/** Of `intruder.ts`. */
export function outcomesOf({ stdout, stderr }: Finished): readonly Outcome[] {
  if (stderr !== '') throw new Error(stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Outcome);
}
