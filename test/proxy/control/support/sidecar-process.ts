import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ToWorker } from '../../../../proxy/worker/messages.ts';
import { Child } from '../../../support/child.ts';
import { eventually } from '../../../support/eventually.ts';
import { Metrics } from '../../../support/prometheus.ts';
import type { FakeControlPlane } from './fake-control-plane.ts';

export const TOKEN = 'ptk_a-join-token-that-must-not-show';

const WITH_FAKE_WORKER = [fileURLToPath(new URL('./run-sidecar.ts', import.meta.url))];

/**
 * A sidecar with its files in a directory of its own; by default `run-sidecar.ts`. The settings are in a file whose path is added to the command, or
 * where that ends in `env:NAME` in the environment.
 */
export class SidecarProcess {
  readonly directory = mkdtempSync(join(tmpdir(), 'postern-sidecar-'));
  readonly ports: { admin: number; metrics: number; health: number; inbound: number };
  readonly child: Child;
  readonly #diary = join(this.directory, 'diary.ndjson');

  private constructor(
    ports: SidecarProcess['ports'],
    settings: { readonly controlPlane: Readonly<Record<string, unknown>> },
    environment: Record<string, string>,
    ca: string,
    command: readonly string[],
  ) {
    this.ports = ports;
    writeFileSync(join(this.directory, 'ca.pem'), ca);
    writeFileSync(join(this.directory, 'token'), `${TOKEN}\n`);
    const variable = /^env:(.+)$/.exec(command.at(-1) ?? '')?.[1];
    const file = join(this.directory, 'proxy.yaml');
    if (variable === undefined) writeFileSync(file, JSON.stringify(settings));
    this.child = Child.start('sidecar', process.execPath, variable === undefined ? [...command, file] : command, {
      FAKE_WORKER_DIARY: this.#diary,
      ...(variable === undefined ? {} : { [variable]: JSON.stringify(this.#absolute(settings)) }),
      ...environment,
    });
  }

  /** Settings that no file stands beside. */
  #absolute({ controlPlane, ...others }: { readonly controlPlane: Readonly<Record<string, unknown>> }): object {
    const place = ([key, value]: [string, unknown]) => [
      key,
      key.endsWith('File') ? join(this.directory, String(value)) : value,
    ];
    return { ...others, controlPlane: Object.fromEntries(Object.entries(controlPlane).map(place)) };
  }

  static async start(
    controlPlane: FakeControlPlane,
    settings: Record<string, unknown> = {},
    environment: Record<string, string> = {},
    command: readonly string[] = WITH_FAKE_WORKER,
  ): Promise<SidecarProcess> {
    const [admin = 0, metrics = 0, health = 0, inbound = 0] = await freePorts(4);
    const at = (port: number) => ({ listen: `127.0.0.1:${port}` });
    const config = {
      workload: { name: 'orders-1', namespace: 'shop', serviceAccount: 'orders', labels: { app: 'orders' } },
      controlPlane: { address: controlPlane.address, caFile: 'ca.pem', joinTokenFile: 'token' },
      inbound: at(inbound),
      admin: at(admin),
      metrics: at(metrics),
      health: at(health),
      drainTimeout: '1s',
      logLevel: 'debug',
      ...settings,
    };
    return new SidecarProcess({ admin, metrics, health, inbound }, config, environment, controlPlane.ca.root, command);
  }

  get(port: 'admin' | 'metrics' | 'health', path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.ports[port]}${path}`, init);
  }

  async text(port: 'admin' | 'metrics' | 'health', path: string, init: RequestInit = {}): Promise<string> {
    return await (await this.get(port, path, init)).text();
  }

  async metrics(): Promise<Metrics> {
    return new Metrics(await this.text('metrics', '/metrics'));
  }

  async becomesReady(): Promise<void> {
    const ready = async () => {
      if (!this.child.alive) throw new Error(`the sidecar ended: ${this.output()}`);
      return (await this.get('health', '/healthz/ready')).status === 200;
    };
    await eventually(ready, { what: 'the sidecar to be ready' });
  }

  /** Everything that its workers were sent. */
  sent(): (ToWorker & { worker: number })[] {
    if (!existsSync(this.#diary)) return [];
    return readFileSync(this.#diary, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }

  output(): string {
    return [...this.child.stdout, ...this.child.stderr].join('\n');
  }

  async remove(): Promise<void> {
    if (this.child.alive) this.child.kill('SIGKILL');
    await this.child.exited;
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Ports that are free now. Taken from the system together, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))));
  const ports = servers.map((server) => {
    const bound = server.address();
    return typeof bound === 'object' && bound !== null ? bound.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
