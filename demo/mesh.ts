import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { AppClient } from './app-client.ts';
import type { DemoDirectory } from './directory.ts';
import { until, untilReady } from './http.ts';
import type { ManagedProcess, ProcessRoster } from './processes.ts';
import { parseLine, SidecarLog } from './sidecar-log.ts';
import type { Place, Role, Site } from './sites/site.ts';
import { NAMESPACE, PORTS, TRUST_DOMAIN, type WorkloadName } from './workloads.ts';

const ROOT = join(import.meta.dirname, '..');
const POSTERN = [process.execPath, join(ROOT, 'cli/main.ts')] as const;
const APP = [process.execPath, join(ROOT, 'demo/app.ts')] as const;

/** Everything is started at once on what may be a small machine. */
const START_TIMEOUT_MS = 60_000;
/** A sidecar that is told to end lets connections finish for this long. */
const DRAIN_TIMEOUT = '2s';

/** A running workload: its application, and what its sidecar logs. */
export interface Workload {
  readonly name: WorkloadName;
  readonly place: Place;
  readonly app: AppClient;
  readonly appPid: number;
  readonly log: SidecarLog;
}

/** The small mesh: control plane, workloads with their sidecars, and somebody outside of it. */
export interface Mesh {
  readonly site: Site;
  readonly workloads: { readonly [name in WorkloadName]: Workload };
  /** An application without a sidecar, on the same network. */
  readonly outsider: AppClient;
  /** What is wrong with the manifests, each time the control plane says so. */
  onManifestProblem(listener: (problem: string) => void): void;
}

/** Starts it all and waits until every sidecar is ready. Whoever made `roster` and `site` ends what was started, also after a failure. */
export async function startMesh(site: Site, directory: DemoDirectory, roster: ProcessRoster): Promise<Mesh> {
  const builder = new MeshBuilder(site, directory, roster);
  const controlPlane = await builder.startControlPlane();
  const [frontend, orders, payments, outsider] = await Promise.all([
    builder.startWorkload('frontend'),
    builder.startWorkload('orders'),
    builder.startWorkload('payments'),
    builder.startApp(site.outsider, null),
  ]);
  return {
    site,
    workloads: { frontend, orders, payments },
    outsider: outsider.app,
    onManifestProblem: (listener) => controlPlane.onLine((line) => reportProblem(line, listener)),
  };
}

/** Complaints about manifests are the control plane's log lines that name a file. */
function reportProblem(text: string, listener: (problem: string) => void): void {
  const line = parseLine(text);
  if (line !== null && 'file' in line && 'line' in line) listener(line.msg);
}

class MeshBuilder {
  readonly #site: Site;
  readonly #directory: DemoDirectory;
  readonly #roster: ProcessRoster;

  constructor(site: Site, directory: DemoDirectory, roster: ProcessRoster) {
    this.#site = site;
    this.#directory = directory;
    this.#roster = roster;
  }

  async startControlPlane(): Promise<ManagedProcess> {
    const place = this.#site.controlPlane;
    const adminAddress = this.#site.redirected ? '127.0.0.1' : place.address;
    const config = {
      manifests: this.#directory.manifests,
      dataDir: this.#directory.data,
      listen: `${place.address}:${PORTS.controlPlane}`,
      adminListen: `${adminAddress}:${PORTS.controlPlaneAdmin}`,
      trustDomain: TRUST_DOMAIN,
    };
    const folder = this.#directory.workload(place.name, { 'control-plane.yaml': stringify(config) }, null);
    const controlPlane = this.#start(
      place.name,
      place,
      [...POSTERN, 'control-plane', '--config', join(folder, 'control-plane.yaml')],
      'system',
    );
    const door = this.#site.door(place, PORTS.controlPlaneAdmin);
    await this.#unlessFailed(untilReady('the control plane', door, '/healthz/ready', START_TIMEOUT_MS));
    await until(
      'the trust bundle',
      START_TIMEOUT_MS,
      async () => existsSync(this.#rootsFile) || `no ${this.#rootsFile}`,
    );
    return controlPlane;
  }

  async startWorkload(name: WorkloadName): Promise<Workload> {
    const place = this.#site.workloads[name];
    const token = await this.#createToken(name);
    const { app, process: appProcess } = await this.startApp(place, name);
    const folder = this.#directory.workload(
      name,
      { 'proxy.yaml': stringify(this.#proxyConfig(name)), 'ca.pem': readFileSync(this.#rootsFile, 'utf8'), token },
      this.#site.sidecarUid,
    );
    const sidecar = this.#start(
      `${name} sidecar`,
      place,
      [...POSTERN, 'proxy', '--config', join(folder, 'proxy.yaml')],
      'sidecar',
    );
    const log = new SidecarLog(sidecar);
    const ready = untilReady(
      `${name}'s sidecar`,
      this.#site.door(place, PORTS.health),
      '/healthz/ready',
      START_TIMEOUT_MS,
    );
    await this.#unlessFailed(ready);
    return { name, place, app, appPid: appProcess.pid ?? 0, log };
  }

  /** `serves`: the workload whose application it is; null: it only calls. */
  async startApp(
    place: Place,
    serves: WorkloadName | null,
  ): Promise<{ readonly app: AppClient; readonly process: ManagedProcess }> {
    const listen: string[] = [];
    if (serves !== null) {
      const { host, port } = this.#site.application(serves);
      listen.push('--listen', host, '--port', String(port));
    }
    const process = this.#start(`${place.name} app`, place, [...APP, '--name', place.name, ...listen], 'application');
    const app = new AppClient(process);
    await this.#unlessFailed(app.listening);
    return { app, process };
  }

  get #rootsFile(): string {
    return join(this.#directory.data, 'ca.pem');
  }

  async #createToken(name: WorkloadName): Promise<string> {
    const file = join(this.#directory.data, `${name}.token`);
    const argv = [...POSTERN, 'token', 'create', '--namespace', NAMESPACE, '--service-account', name];
    argv.push('--data-dir', this.#directory.data, '--output', file);
    const child = this.#site.spawn(this.#site.controlPlane, argv, 'system');
    await this.#roster.runToEnd(`${name} token`, child, START_TIMEOUT_MS);
    return readFileSync(file, 'utf8');
  }

  #proxyConfig(name: WorkloadName): { readonly [key: string]: unknown } {
    const { workload, ...settings } = this.#site.proxySettings(name);
    return {
      workload: {
        name: `${name}-1`,
        namespace: NAMESPACE,
        serviceAccount: name,
        labels: { app: name, version: 'v1' },
        ...(typeof workload === 'object' ? workload : {}),
      },
      controlPlane: {
        address: `https://${this.#site.controlPlane.address}:${PORTS.controlPlane}`,
        caFile: './ca.pem',
        joinTokenFile: './token',
      },
      ...settings,
      drainTimeout: DRAIN_TIMEOUT,
    };
  }

  #start(name: string, place: Place, argv: readonly string[], role: Role): ManagedProcess {
    return this.#roster.add(name, this.#site.spawn(place, argv, role));
  }

  /** What is waited for never comes when a process has ended; that is then the error to show. */
  async #unlessFailed(waiting: Promise<void>): Promise<void> {
    await Promise.race([waiting, this.#roster.untilFailure()]);
  }
}
