import { type ChildProcess, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { type Host, MeshNetwork } from '../network.ts';
import type { ManagedProcess, ProcessRoster } from '../processes.ts';
import { DOOR_PORTS, doorPath, UrlForwards } from '../url-forwards.ts';
import {
  CLUSTER_IPS,
  PORTS,
  SERVICE_PORT,
  SIDECAR_MARK,
  SIDECAR_UID,
  WORKLOAD_NAMES,
  type WorkloadName,
} from '../workloads.ts';
import { dieWithParent } from './die-with-parent.ts';
import type { Door, Place, Role, Site } from './site.ts';

const ROOT = join(import.meta.dirname, '../..');
const POSTERN = join(ROOT, 'cli/main.ts');
const PORT_FORWARD = join(ROOT, 'demo/port-forward.ts');
const REDIRECT_TIMEOUT_MS = 15_000;
const STOP_GRACE_MS = 1000;

export interface NamespacesOptions {
  readonly roster: ProcessRoster;
  /** The demo's directory, and the one in it for Unix sockets. */
  readonly directory: string;
  readonly runDirectory: string;
  readonly reason: string;
}

/** Each workload in a network namespace of its own, as a pod would be, with its TCP redirected by nftables. */
export class NamespacesSite implements Site {
  readonly description: string;
  readonly redirected = true;
  readonly controlPlane: Place;
  readonly outsider: Place;
  readonly workloads: { readonly [name in WorkloadName]: Place };
  /** Null: the sidecar is root and exempt from redirection by a packet mark. */
  readonly sidecarUid: number | null;
  readonly #roster: ProcessRoster;
  readonly #network: MeshNetwork;
  readonly #hosts: ReadonlyMap<string, Host>;
  readonly #runDirectory: string;
  readonly #forwards: UrlForwards;
  /** The processes in the namespaces that make ports reachable. */
  readonly #doors: ManagedProcess[] = [];

  private constructor(
    options: NamespacesOptions,
    network: MeshNetwork,
    hosts: ReadonlyMap<string, Host>,
    forwards: UrlForwards,
  ) {
    this.#roster = options.roster;
    this.#network = network;
    this.#hosts = hosts;
    this.#runDirectory = options.runDirectory;
    this.#forwards = forwards;
    const identity = sidecarIdentity(network, options.directory);
    this.sidecarUid = identity.uid;
    this.description = `network namespaces with nftables redirection (${options.reason}); ${identity.why}`;
    const place = (name: string): Place => ({ name, address: this.#host(name).ipv4 });
    this.controlPlane = place('control-plane');
    this.outsider = place('outsider');
    this.workloads = { frontend: place('frontend'), orders: place('orders'), payments: place('payments') };
  }

  /** Leaves nothing behind where it fails half-way. */
  static async create(options: NamespacesOptions): Promise<NamespacesSite> {
    const network = await MeshNetwork.create({ name: 'demo' });
    let close = (): Promise<void> => network.destroy();
    try {
      const hosts = new Map<string, Host>();
      for (const name of ['control-plane', ...WORKLOAD_NAMES, 'outsider']) hosts.set(name, await network.addHost(name));
      const site = new NamespacesSite(options, network, hosts, await UrlForwards.open(options.runDirectory));
      close = () => site.close();
      await site.#openDoors();
      await Promise.all(Object.values(site.workloads).map((workload) => site.#redirect(workload)));
      return site;
    } catch (error) {
      await close();
      throw error;
    }
  }

  spawn(place: Place, argv: readonly string[], role: Role): ChildProcess {
    const uid = role === 'sidecar' ? this.sidecarUid : null;
    return this.#host(place.name).exec(dieWithParent(argv, uid), { cwd: '/' });
  }

  door(place: Place, port: number): Door {
    return { socketPath: doorPath(this.#runDirectory, place.name, port) };
  }

  url(place: Place, port: number): string {
    return `http://127.0.0.1:${this.#forwards.ports[`${place.name}-${port}`]}`;
  }

  proxySettings(): { readonly [key: string]: unknown } {
    const listen = `0.0.0.0:${PORTS.outbound}`;
    return {
      inbound: { listen: `0.0.0.0:${PORTS.inbound}`, tunnel: `0.0.0.0:${PORTS.tunnel}` },
      outbound: this.sidecarUid === null ? { listen, mark: SIDECAR_MARK } : { listen },
      admin: { listen: `127.0.0.1:${PORTS.admin}` },
      metrics: { listen: `0.0.0.0:${PORTS.metrics}` },
      health: { listen: `0.0.0.0:${PORTS.health}` },
    };
  }

  application(): { readonly host: string; readonly port: number } {
    return { host: '0.0.0.0', port: SERVICE_PORT };
  }

  target(_caller: WorkloadName, service: WorkloadName): { readonly host: string; readonly port: number } {
    return { host: CLUSTER_IPS[service], port: SERVICE_PORT };
  }

  bypass(service: WorkloadName): { readonly host: string; readonly port: number } {
    return { host: this.workloads[service].address, port: SERVICE_PORT };
  }

  commandLine(caller: WorkloadName, service: WorkloadName, pid: number): string {
    const { host, port } = this.target(caller, service);
    const user = this.#network.isolation === 'root' ? '' : '--user --preserve-credentials ';
    return `nsenter --target ${pid} ${user}--net curl http://${host}:${port}/`;
  }

  async close(): Promise<void> {
    this.#forwards.close();
    await Promise.all(this.#doors.map((door) => door.stop(STOP_GRACE_MS)));
    await this.#network.destroy();
  }

  #host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new Error(`no host ${name}`);
    return host;
  }

  /** Before any sidecar starts: what an application dials in between fails instead of leaving in plaintext. */
  async #redirect(place: Place): Promise<void> {
    const argv = [process.execPath, POSTERN, 'intercept', 'apply', ...this.#exemption()];
    await this.#roster.runToEnd(`${place.name} intercept`, this.spawn(place, argv, 'system'), REDIRECT_TIMEOUT_MS);
  }

  /**
   * What the sidecar itself sends must not come back to it. A packet mark is set by the data plane on what it dials; the control thread's own
   * connection has none, so its destination is left out by address.
   */
  #exemption(): readonly string[] {
    if (this.sidecarUid !== null) return ['--uid', String(this.sidecarUid)];
    return ['--mark', String(SIDECAR_MARK), '--exclude-outbound-cidrs', `${this.controlPlane.address}/32`];
  }

  async #openDoors(): Promise<void> {
    const open = async (place: Place, ports: readonly number[]): Promise<void> => {
      const pairs = ports.flatMap((port) => [doorPath(this.#runDirectory, place.name, port), String(port)]);
      const child = this.spawn(place, [process.execPath, PORT_FORWARD, ...pairs], 'system');
      const forward = this.#roster.add(`${place.name} doors`, child);
      this.#doors.push(forward);
      const ready = new Promise<void>((resolve) => forward.onLine((line) => line === 'ready' && resolve()));
      await Promise.race([ready, forward.untilFailure()]);
    };
    await Promise.all([
      open(this.controlPlane, DOOR_PORTS['control-plane']),
      ...Object.values(this.workloads).map((place) => open(place, DOOR_PORTS.workload)),
    ]);
  }
}

/** The sidecar as a user of its own, as in a pod; where that user does not exist or may not read this repository, as root with a packet mark. */
function sidecarIdentity(
  network: MeshNetwork,
  directory: string,
): { readonly uid: number | null; readonly why: string } {
  const marked = (because: string): { readonly uid: null; readonly why: string } => ({
    uid: null,
    why: `sidecars run as this user and are exempt by packet mark: ${because}`,
  });
  if (!network.canSwitchUser) return marked(`there is no UID ${SIDECAR_UID} in a user namespace`);
  const readDirectory = `import('node:fs').then((fs) => fs.accessSync(${JSON.stringify(directory)}, fs.constants.X_OK))`;
  const probes = [
    [process.execPath, POSTERN, '--version'],
    [process.execPath, '-e', readDirectory],
  ];
  const canRun = probes.every((argv) => {
    const [program = '', ...args] = dieWithParent(argv, SIDECAR_UID);
    return spawnSync(program, args, { cwd: '/', stdio: 'ignore', timeout: 20_000 }).status === 0;
  });
  if (!canRun) return marked(`UID ${SIDECAR_UID} may not read ${ROOT} or ${directory}`);
  return { uid: SIDECAR_UID, why: `sidecars run as UID ${SIDECAR_UID}` };
}
