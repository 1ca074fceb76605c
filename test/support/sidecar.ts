import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TcpAddress } from './apps.ts';
import { Child, type ChildExit } from './child.ts';
import { eventually, within } from './eventually.ts';
import { Metrics } from './prometheus.ts';

export interface WorkloadOptions {
  readonly name: string;
  /** Default `shop`. */
  readonly namespace?: string;
  /** Default: the name. */
  readonly serviceAccount?: string;
  /** Default `{ app: <name> }`. */
  readonly labels?: { readonly [label: string]: string };
  readonly expose?: readonly { readonly port: number; readonly application: TcpAddress }[];
  /** `payments.shop:8080`; each gets a listener of its own. */
  readonly upstreams?: readonly string[];
  /** Limit of open files (RLIMIT_NOFILE). Default: the machine's. */
  readonly descriptors?: number;
  /** Further keys of proxy.yaml; they replace what the test's mesh would write. */
  readonly config?: { readonly [key: string]: unknown };
}

/** Where the mesh of a test keeps things. */
export interface SidecarPlace {
  readonly directory: string;
  readonly postern: string;
  readonly controlPlane: string;
  readonly caFile: string;
  readonly address: string;
  /** Marks the process as this mesh's, for the search for leftovers. */
  readonly environment: { readonly [name: string]: string };
}

export interface AccessLogLine {
  readonly [field: string]: unknown;
}

const FIRST_UPSTREAM_PORT = 7401;

/** A workload of the mesh under test: its address and its sidecar's process. The application is the test's own. */
export class Sidecar {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly spiffeId: string;
  readonly address: string;
  readonly tunnel: TcpAddress;
  readonly admin: TcpAddress;
  readonly tokenFile: string;
  readonly configFile: string;
  readonly #upstreams: readonly string[];
  readonly #place: SidecarPlace;
  readonly #descriptors: number | undefined;
  /** Of the processes before the one that runs now. */
  readonly #earlierOutput: string[] = [];
  #child: Child | null = null;

  constructor(options: WorkloadOptions, place: SidecarPlace) {
    const { name, namespace = 'shop', serviceAccount = name, labels = { app: name }, upstreams = [] } = options;
    this.name = name;
    this.namespace = namespace;
    this.serviceAccount = serviceAccount;
    this.spiffeId = `spiffe://cluster.local/ns/${namespace}/sa/${serviceAccount}`;
    this.address = place.address;
    this.tunnel = { address: place.address, port: 15008 };
    this.admin = { address: place.address, port: 15000 };
    this.tokenFile = join(place.directory, `${name}.token`);
    this.configFile = join(place.directory, `${name}.yaml`);
    this.#upstreams = upstreams;
    this.#place = place;
    this.#descriptors = options.descriptors;
    const at = (port: number): string => `${place.address}:${port}`;
    const config = {
      workload: { name, namespace, serviceAccount, labels, addresses: [place.address] },
      controlPlane: { address: place.controlPlane, caFile: place.caFile, joinTokenFile: this.tokenFile },
      inbound: { listen: at(15006), tunnel: at(15008) },
      outbound: { listen: at(15001) },
      expose: (options.expose ?? []).map(({ port, application }) => ({
        port,
        application: `${application.address}:${application.port}`,
      })),
      upstreams: upstreams.map((service, index) => ({ listen: at(FIRST_UPSTREAM_PORT + index), service })),
      admin: { listen: at(15000) },
      metrics: { listen: at(15020) },
      health: { listen: at(15021) },
      drainTimeout: '2s',
      ...options.config,
    };
    // JSON is YAML.
    writeFileSync(this.configFile, JSON.stringify(config, null, 2));
  }

  get process(): Child {
    if (this.#child === null) throw new Error(`${this.name} was not started`);
    return this.#child;
  }

  /** Where the application dials to reach a service. */
  upstream(service: string): TcpAddress {
    const index = this.#upstreams.indexOf(service);
    if (index === -1) throw new Error(`${this.name} has no upstream ${service}`);
    return { address: this.address, port: FIRST_UPSTREAM_PORT + index };
  }

  start(): void {
    if (this.#child !== null) this.#earlierOutput.push(...this.#child.stdout);
    const limited = this.#descriptors === undefined ? [] : ['prlimit', `--nofile=${this.#descriptors}`];
    const [file = '', ...args] = [...limited, this.#place.postern, 'proxy', '--config', this.configFile];
    this.#child = Child.start(`sidecar ${this.name}`, file, args, this.#place.environment);
  }

  async waitReady(timeoutMs = 60_000): Promise<void> {
    const ready = async (): Promise<boolean> => {
      if (!this.process.alive) return true;
      return (await fetch(`http://${this.address}:15021/healthz/ready`)).ok;
    };
    const failed = (cause: unknown): never => {
      throw new Error(`${this.name} is not ready; ${this.process.tail()}`, { cause });
    };
    await eventually(ready, { what: `${this.name} to be ready`, timeoutMs, everyMs: 50 }).catch(failed);
    if (!this.process.alive) failed('it ended');
  }

  async isReady(): Promise<boolean> {
    return await fetch(`http://${this.address}:15021/healthz/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  async kill(signal: NodeJS.Signals, timeoutMs = 60_000): Promise<ChildExit> {
    this.process.kill(signal);
    return await within(this.process.exited, timeoutMs, `${this.name} to end after ${signal}`);
  }

  async metrics(): Promise<Metrics> {
    const response = await fetch(`http://${this.address}:15020/metrics`);
    if (!response.ok) throw new Error(`/metrics of ${this.name} answers ${response.status}`);
    return new Metrics(await response.text());
  }

  async adminJson(path: string): Promise<unknown> {
    return await (await fetch(`http://${this.address}:15000${path}`)).json();
  }

  /** Lines of the access log so far, of earlier processes too. */
  accessLog(): AccessLogLine[] {
    return this.logLines().filter((line) => line.msg === 'access');
  }

  /** Waits for a line of the access log. */
  async accessLogLine(wanted: (line: AccessLogLine) => boolean, what: string): Promise<AccessLogLine> {
    return await eventually(() => this.accessLog().find(wanted), {
      what: `a line in ${this.name}'s access log: ${what}`,
    });
  }

  /** Everything that it logged as JSON. */
  logLines(): AccessLogLine[] {
    const lines = [...this.#earlierOutput, ...(this.#child?.stdout ?? [])];
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as AccessLogLine);
  }
}
