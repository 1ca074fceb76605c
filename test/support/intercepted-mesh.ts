import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Host, MeshNetwork } from '../../demo/network.ts';
import { Child, finish } from './child.ts';
import { eventually } from './eventually.ts';
import type { AccessLogLine } from './sidecar.ts';

const POSTERN = fileURLToPath(new URL('../../bin/postern', import.meta.url));
const TOOL = fileURLToPath(new URL('./tcp-tool.ts', import.meta.url));
/** Everything runs as root in these namespaces but for pods' sidecars: what the sidecar dials is known by its packet mark. */
const MARK = 1337;
/** Of a pod's sidecar. */
const USER_ID = 1337;

/** As the kubelet starts a sidecar's container: nothing can be written, no capability, no environment but its settings. */
const AS_IN_A_POD = `set -e
awk '{print $5}' /proc/self/mountinfo | sort -u | while read -r at; do mount -o remount,bind,ro "$at"; done
cd /
identity="--reuid ${USER_ID} --regid ${USER_ID} --clear-groups --inh-caps -all --bounding-set -all --no-new-privs"
exec setpriv $identity env -i PATH=/usr/bin:/bin POSTERN_CONFIG="$POSTERN_CONFIG" "$@"
`;

export interface CallResult {
  readonly answer: string;
  readonly error: string | null;
}

export interface TlsFacts {
  readonly ALPNProtocols: readonly string[];
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
}

export interface InterceptedMeshOptions {
  /** Sidecars run as containers of pods do, with these further settings; needs root. */
  readonly pods?: { readonly [key: string]: unknown } | null;
  /** `http` of the settings of every sidecar. */
  readonly http?: { readonly [key: string]: unknown };
}

/** A mesh whose workloads stand each in a network namespace with redirection, as pods do, and one host outside of it. */
export class InterceptedMesh {
  readonly directory: string;
  readonly dataDir: string;
  readonly network: MeshNetwork;
  readonly hosts = new Map<string, Host>();
  readonly #children: Child[] = [];
  readonly #sidecars = new Map<string, Child>();

  private constructor(network: MeshNetwork) {
    this.network = network;
    this.directory = mkdtempSync(join(tmpdir(), 'postern-e2e-'));
    this.dataDir = join(this.directory, 'data');
    mkdirSync(join(this.directory, 'manifests'));
  }

  /** @param name short, a-z: of the namespaces. */
  static async start(
    name: string,
    workloads: readonly string[],
    manifests: { readonly [file: string]: string },
    options: InterceptedMeshOptions = {},
  ): Promise<InterceptedMesh> {
    const mesh = new InterceptedMesh(await MeshNetwork.create({ name }));
    try {
      for (const [file, text] of Object.entries(manifests)) mesh.editManifest(file, text);
      for (const host of ['cp', 'outside', ...workloads]) mesh.hosts.set(host, await mesh.network.addHost(host));
      await mesh.#startControlPlane();
      await Promise.all(workloads.map((workload) => mesh.#startWorkload(workload, options)));
      return mesh;
    } catch (error) {
      await mesh.stop();
      throw error;
    }
  }

  host(name: string): Host {
    const host = this.hosts.get(name);
    if (host === undefined) throw new Error(`no host ${name}`);
    return host;
  }

  editManifest(file: string, text: string): void {
    const aside = join(this.directory, `${file}.new`);
    writeFileSync(aside, text);
    renameSync(aside, join(this.directory, 'manifests', file));
  }

  /** Starts a program on a host; ended by `stop` at the latest. */
  start(host: string, ...argv: readonly string[]): Child {
    const child = new Child(`${argv.slice(0, 3).join(' ')} on ${host}`, this.host(host).exec(argv));
    this.#children.push(child);
    return child;
  }

  /** What a program on a host prints until its end. */
  async output(host: string, argv: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
    const child = new Child(`${argv.slice(0, 3).join(' ')} on ${host}`, this.host(host).exec(argv, { env }));
    this.#children.push(child);
    return (await finish(child, 30_000)).stdout;
  }

  /** Starts an application of test/support/tcp-tool.ts and waits until it listens. */
  async serve(host: string, kind: 'echo' | 'banner', port: number): Promise<Child> {
    const app = this.start(host, process.execPath, TOOL, 'serve', kind, String(port));
    await eventually(() => app.stdout.includes('listening'), { what: `${app.name} to listen` });
    return app;
  }

  /** One connection from a host's application: sends `text` and its end, and hears what comes until the other end. */
  async call(from: string, address: string, port: number, text = 'ping'): Promise<CallResult> {
    return await this.#client(from, 'call', address, port, text);
  }

  /** One connection that sends nothing, or nothing but its end. */
  async listen(from: string, address: string, port: number, how: 'listen' | 'end' = 'listen'): Promise<CallResult> {
    return await this.#client(from, how, address, port);
  }

  /** As `call`, over TLS; the server's certificate is not checked. */
  async callTls(from: string, address: string, port: number, tls: TlsFacts): Promise<CallResult> {
    const env = { ...process.env, TCP_TOOL_TLS: JSON.stringify(tls) };
    const argv = [process.execPath, TOOL, 'tls', address, String(port), 'ping'];
    const child = new Child(`tls on ${from}`, this.host(from).exec(argv, { env }));
    this.#children.push(child);
    const { stdout } = await finish(child, 30_000);
    return JSON.parse(stdout) as CallResult;
  }

  /** Whether an echo answers. */
  async answers(from: string, address: string, port: number): Promise<boolean> {
    return (await this.call(from, address, port)).answer === 'ping';
  }

  /** A connection from a host's application that stays open; it is over when the process is. */
  async hold(from: string, address: string, port: number): Promise<Child> {
    const child = this.start(from, process.execPath, TOOL, 'hold', address, String(port));
    await eventually(() => child.stdout.includes('connected'), { what: `${child.name} to connect` });
    return child;
  }

  accessLog(workload: string): AccessLogLine[] {
    const lines = this.#sidecars.get(workload)?.stdout ?? [];
    return lines
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as AccessLogLine)
      .filter(({ msg }) => msg === 'access');
  }

  async accessLogLine(
    workload: string,
    wanted: (line: AccessLogLine) => boolean,
    what: string,
  ): Promise<AccessLogLine> {
    return await eventually(() => this.accessLog(workload).find(wanted), {
      what: `a line in ${workload}'s access log: ${what}`,
    });
  }

  /** Ends every process and removes namespaces and directory. */
  async stop(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.stop(5_000)));
    await this.network.destroy();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #client(from: string, mode: string, address: string, port: number, ...words: string[]): Promise<CallResult> {
    const child = this.start(from, process.execPath, TOOL, mode, address, String(port), ...words);
    const { stdout } = await finish(child, 30_000);
    return JSON.parse(stdout) as CallResult;
  }

  async #postern(host: string, ...args: readonly string[]): Promise<void> {
    const done = await finish(this.start(host, POSTERN, ...args), 30_000);
    if (done.code !== 0)
      throw new Error(`postern ${args.join(' ')} ended with ${done.code}: ${done.stderr}${done.stdout}`);
  }

  async #startControlPlane(): Promise<void> {
    const config = {
      manifests: './manifests',
      dataDir: './data',
      listen: `${this.host('cp').ipv4}:15012`,
      adminListen: '127.0.0.1:15014',
      // Sidecars come by IPv4, and claim their IPv6 address besides.
      trustedAddresses: ['fd77::/64'],
    };
    writeFileSync(join(this.directory, 'control-plane.yaml'), JSON.stringify(config));
    const child = this.start('cp', POSTERN, 'control-plane', '--config', join(this.directory, 'control-plane.yaml'));
    // Its ports are in another namespace, and its files are there before it answers: it says itself when that is.
    const isReady = (): boolean => child.stdout.some((line) => line.includes('the control plane is ready'));
    await eventually(() => isReady() || !child.alive, { what: 'the control plane to be ready' });
    if (!isReady()) throw new Error(child.tail());
  }

  async #startSidecar(name: string, config: object): Promise<Child> {
    const file = join(this.directory, `${name}.yaml`);
    writeFileSync(file, JSON.stringify(config));
    await this.#postern(name, 'intercept', 'apply', ...BY_MARK);
    return this.start(name, POSTERN, 'proxy', '--config', file);
  }

  async #startPod(name: string, config: object): Promise<Child> {
    await this.#postern(name, 'intercept', 'apply', ...BY_USER);
    const argv = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', AS_IN_A_POD, 'sh', POSTERN];
    const env = { ...process.env, POSTERN_CONFIG: JSON.stringify(config) };
    const started = this.host(name).exec([...argv, 'proxy', '--config', 'env:POSTERN_CONFIG'], { env });
    const child = new Child(`pod ${name}`, started);
    this.#children.push(child);
    return child;
  }

  /** What a sidecar that is not root must read. @returns the path of the roots */
  #openToAll(token: string): string {
    const roots = join(this.directory, 'roots.pem');
    copyFileSync(join(this.dataDir, 'ca.pem'), roots);
    for (const file of [roots, token]) chmodSync(file, 0o644);
    chmodSync(this.directory, 0o755);
    return roots;
  }

  sidecar(workload: string): Child {
    const child = this.#sidecars.get(workload);
    if (child === undefined) throw new Error(`no workload ${workload}`);
    return child;
  }

  async #startWorkload(name: string, { pods: pod = null, http = {} }: InterceptedMeshOptions): Promise<void> {
    const token = join(this.directory, `${name}.token`);
    const identity = ['--namespace', 'shop', '--service-account', name];
    await this.#postern('cp', 'token', 'create', ...identity, '--data-dir', this.dataDir, '--output', token);
    const { ipv4, ipv6 } = this.host(name);
    const config = {
      workload: {
        name: `${name}-1`,
        namespace: 'shop',
        serviceAccount: name,
        labels: { app: name },
        addresses: pod === null ? [ipv4, ipv6] : `${ipv4},${ipv6}`,
      },
      controlPlane: {
        address: `https://${this.host('cp').ipv4}:15012`,
        caFile: pod === null ? join(this.dataDir, 'ca.pem') : this.#openToAll(token),
        joinTokenFile: token,
      },
      inbound: { listen: '[::]:15006', tunnel: '[::]:15008' },
      outbound: { listen: '[::]:15001', ...(pod === null ? { mark: MARK } : {}) },
      drainTimeout: '1s',
      limits: { peekTimeout: '2s', handshakeTimeout: '10s' },
      http,
      ...pod,
    };
    const child = await (pod === null ? this.#startSidecar(name, config) : this.#startPod(name, config));
    this.#sidecars.set(name, child);
    const ready = async (): Promise<boolean> => {
      const probe = this.start(name, process.execPath, '-e', READY);
      return (await finish(probe, 10_000)).code === 0;
    };
    await eventually(ready, { what: `${name} to be ready`, everyMs: 250 }).catch((cause: unknown) => {
      throw new Error(child.tail(), { cause });
    });
  }
}

/** Marked ones are the data plane's connections; the control thread's are known by their port. */
const BY_MARK = ['--uid', 'none', '--gid', 'none', '--mark', String(MARK), '--exclude-outbound-ports', '15012'];
const BY_USER = ['--uid', String(USER_ID), '--gid', String(USER_ID)];
const READY = `fetch('http://127.0.0.1:15021/healthz/ready').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`;
