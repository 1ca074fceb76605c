import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { EXIT, PosternError } from '../mesh/errors.ts';
import { thisMachine } from '../proxy/intercept/machine.ts';
import { availability, Enclosure, type Isolation } from './network/namespaces.ts';
import { endProcesses, isAlive, killProcess } from './network/processes.ts';

export { type Availability, availability, enterUserNamespace, type Isolation } from './network/namespaces.ts';

/*
 * A network of hosts that are network namespaces, each with one veth to a bridge that stands in a namespace of its own: nothing of the
 * machine's own network is touched. Namespaces are called `postern-<network>-<pid>-<host>`, by which a later run knows what a killed one left.
 */

/** The bridge's addresses: the hosts' default route, by which virtual IPs leave a host (and end there, for nothing forwards them). */
const GATEWAY = { ipv4: '10.77.0.1', ipv6: 'fd77::1' } as const;
const FIRST_HOST = 2;
const LAST_HOST = 254;
const BRIDGE = 'bridge';
/** How long processes may take to end before they are killed. */
const GRACE_MS = 5_000;

const NETWORK_NAME = /^[a-z][a-z0-9]{0,15}$/;
const HOST_NAME = /^[a-z0-9][a-z0-9-]{0,30}$/;
const NAMESPACE = /^postern-([a-z][a-z0-9]{0,15})-([0-9]+)-[a-z0-9-]+$/;

export interface ExecOptions {
  /** As whom; needs isolation `root`, for in a user namespace there is only UID 0. Both or the UID alone (then the GID is the same). */
  readonly uid?: number;
  readonly gid?: number;
  /** The whole environment; default: this process's. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Default: `pipe`. */
  readonly stdio?: StdioOptions;
}

export interface Host {
  readonly name: string;
  /** As `ip netns` knows it, where the isolation is `root`. */
  readonly namespace: string;
  readonly ipv4: string;
  readonly ipv6: string;
  /** Starts a program on this host, without a shell. `pid` is the program's own. Ended by `destroy()` at the latest. */
  exec(argv: readonly string[], options?: ExecOptions): ChildProcess;
}

function failed(message: string): PosternError {
  return new PosternError('ERR_NETWORK', message, { exitCode: EXIT.osError });
}

/** Networks of this process that are not destroyed: their leftovers are none. */
const living = new Set<string>();

export class MeshNetwork {
  readonly name: string;
  readonly isolation: Isolation;
  readonly #enclosure: Enclosure;
  readonly #prefix: string;
  readonly #hosts = new Map<string, Host>();
  readonly #processes = new Set<ChildProcess>();
  #destroyed: Promise<void> | null = null;

  private constructor(name: string, prefix: string, enclosure: Enclosure) {
    this.name = name;
    this.#prefix = prefix;
    this.#enclosure = enclosure;
    this.isolation = enclosure.isolation;
  }

  /**
   * Makes the bridge, after removing what killed runs of any network left behind.
   *
   * @throws PosternError where namespaces cannot be made here (`availability()` tells why) or the name is in use.
   */
  static async create(options: { readonly name: string; readonly isolation?: Isolation }): Promise<MeshNetwork> {
    const { name } = options;
    if (!NETWORK_NAME.test(name)) throw failed(`${JSON.stringify(name)} is not a network name (a-z, 0-9, at most 16)`);
    const prefix = `postern-${name}-${process.pid}-`;
    if (living.has(prefix)) throw failed(`the network ${name} exists already in this process`);
    const { kind, reason } = availability();
    if (kind === 'none') throw new PosternError('ERR_NETWORK_UNAVAILABLE', reason, { exitCode: EXIT.unavailable });
    living.add(prefix);
    let network: MeshNetwork | null = null;
    try {
      network = new MeshNetwork(name, prefix, await Enclosure.open(options.isolation ?? kind));
      await network.#collectLeftovers();
      await network.#addBridge();
      return network;
    } catch (error) {
      if (network === null) living.delete(prefix);
      else await network.destroy();
      throw error;
    }
  }

  /** Whether `exec` can run programs as another user; where not, the sidecar's exemption has to be a packet mark. */
  get canSwitchUser(): boolean {
    return /^\s*0\s+0\s+4294967295$/m.test(thisMachine.read('/proc/self/uid_map') ?? '') && this.isolation === 'root';
  }

  /** The name of a host's namespace in `ip netns`. */
  namespaceOf(host: string): string {
    return this.#prefix + host;
  }

  async addHost(name: string): Promise<Host> {
    if (!HOST_NAME.test(name) || name === BRIDGE) throw failed(`${JSON.stringify(name)} is not a host name here`);
    if (this.#hosts.has(name)) throw failed(`the network ${this.name} has a host ${name} already`);
    if (this.#destroyed !== null) throw failed(`the network ${this.name} is gone`);
    const number = FIRST_HOST + this.#hosts.size;
    if (number > LAST_HOST) throw failed(`the network ${this.name} is full`);
    const host: Host = {
      name,
      namespace: this.namespaceOf(name),
      ipv4: `10.77.0.${number}`,
      ipv6: `fd77::${number.toString(16)}`,
      exec: (argv, options) => this.#exec(name, argv, options),
    };
    this.#hosts.set(name, host);
    const port = `veth${number}`;
    await this.#ip(['netns', 'add', host.namespace]);
    await this.#configure(name, [
      'link set lo up',
      `link add eth0 type veth peer name ${port} netns ${this.namespaceOf(BRIDGE)}`,
      // No link-local address and no duplicate detection: the host's addresses can be used at once.
      'link set eth0 addrgenmode none',
      `addr add ${host.ipv4}/24 dev eth0`,
      `addr add ${host.ipv6}/64 dev eth0 nodad`,
    ]);
    await this.#configure(BRIDGE, [
      `link set ${port} addrgenmode none`,
      `link set ${port} master br0`,
      `link set ${port} up`,
    ]);
    await this.#configure(name, [
      'link set eth0 up',
      `route add default via ${GATEWAY.ipv4}`,
      `route add default via ${GATEWAY.ipv6}`,
    ]);
    return host;
  }

  /** Ends what runs on the hosts and removes all of it; also after a failure half-way. Doing it twice is doing it once. */
  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  async #destroy(): Promise<void> {
    try {
      await endProcesses([...this.#processes], GRACE_MS);
      for (const namespace of await this.#namespaces()) {
        if (namespace.startsWith(this.#prefix)) await this.#ip(['netns', 'delete', namespace]);
      }
    } finally {
      await this.#enclosure.close();
      living.delete(this.#prefix);
    }
  }

  async #addBridge(): Promise<void> {
    await this.#ip(['netns', 'add', this.namespaceOf(BRIDGE)]);
    await this.#configure(BRIDGE, [
      'link set lo up',
      'link add br0 type bridge forward_delay 0 stp_state 0',
      'link set br0 addrgenmode none',
      `addr add ${GATEWAY.ipv4}/24 dev br0`,
      `addr add ${GATEWAY.ipv6}/64 dev br0 nodad`,
      'link set br0 up',
    ]);
  }

  #exec(host: string, argv: readonly string[], options: ExecOptions = {}): ChildProcess {
    if (this.#destroyed !== null) throw failed(`the network ${this.name} is gone`);
    const cwd = options.cwd ?? process.cwd();
    const identity = this.#identity(options);
    const inside = ['nsenter', `--net=/run/netns/${this.namespaceOf(host)}`, '--', ...identity, ...argv];
    const [program, ...args] = this.#enclosure.command(inside, cwd);
    const child = spawn(program, args, { cwd, env: options.env ?? process.env, stdio: options.stdio ?? 'pipe' });
    this.#processes.add(child);
    child.once('close', () => this.#processes.delete(child));
    return child;
  }

  #identity(options: ExecOptions): string[] {
    const { uid } = options;
    if (uid === undefined) return [];
    if (!this.canSwitchUser)
      throw failed(`there is no UID ${uid} in a user namespace: exempt the sidecar by a packet mark`);
    return ['setpriv', `--reuid=${uid}`, `--regid=${options.gid ?? uid}`, '--clear-groups', '--'];
  }

  /** Removes namespaces whose maker is dead, with whatever it left running in them. */
  async #collectLeftovers(): Promise<void> {
    for (const namespace of await this.#namespaces()) {
      const [, name, owner] = NAMESPACE.exec(namespace) ?? [];
      const pid = Number(owner);
      // Another thread of this process may have networks of other names; of this name it is only a predecessor's, with our PID by chance.
      const isLeft = pid === process.pid ? name === this.name : !isAlive(pid);
      if (name === undefined || !isLeft) continue;
      const { stdout } = await this.#ip(['netns', 'pids', namespace]);
      for (const line of stdout.split('\n').filter((text) => text !== '')) killProcess(Number(line));
      await this.#ip(['netns', 'delete', namespace]);
    }
  }

  async #namespaces(): Promise<string[]> {
    const { stdout } = await this.#ip(['netns', 'list']);
    return stdout.split('\n').flatMap((line) => /^(\S+)/.exec(line)?.slice(1) ?? []);
  }

  #configure(host: string, lines: readonly string[]) {
    return this.#ip(['-netns', this.namespaceOf(host), '-batch', '-'], `${lines.join('\n')}\n`);
  }

  async #ip(args: readonly string[], stdin?: string) {
    const result = await thisMachine.run(this.#enclosure.command(['ip', ...args], '/'), stdin);
    if (result.status !== 0) throw failed(`ip ${args.join(' ')}: ${result.stderr.trim().slice(0, 500)}`);
    return result;
  }
}
