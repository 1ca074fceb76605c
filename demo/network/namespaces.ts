import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { thisMachine } from '../../proxy/intercept/machine.ts';

/** How network namespaces can be had here: as we are, inside a user namespace of our own, or not at all. */
export interface Availability {
  readonly kind: 'root' | 'userns' | 'none';
  /** One sentence for a person. */
  readonly reason: string;
}

export type Isolation = 'root' | 'userns';

const TOOLS = [
  ['ip', 'iproute2'],
  ['unshare', 'util-linux'],
  ['nsenter', 'util-linux'],
  ['setpriv', 'util-linux'],
] as const;

const USER_NAMESPACE = ['unshare', '--user', '--map-root-user', '--net', '--mount', '--'] as const;

/**
 * `ip netns` keeps its namespaces in /run/netns: where root is mapped to a mere user that folder belongs to somebody else, so it gets
 * one of its own. The command follows as "$@" and is not parsed by the shell.
 */
const OWN_RUN = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"';

const attempt = (argv: readonly string[]): boolean =>
  spawnSync(argv[0] ?? '', argv.slice(1), { stdio: 'ignore', timeout: 10_000, env: toolEnvironment() }).status === 0;

/** Debian's PATH of a plain user has no sbin, where `ip` may live. */
function toolEnvironment(base: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return { ...base, PATH: `${base.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin` };
}

/** Tries, rather than guesses from UIDs and sysctls: containers, AppArmor and seccomp all have a say. Takes some milliseconds. */
export function availability(): Availability {
  if (process.platform !== 'linux')
    return { kind: 'none', reason: `network namespaces need Linux, not ${process.platform}` };
  const missing = TOOLS.filter(([tool]) => thisMachine.locate(tool) === null);
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(([, name]) => name))].join(' ');
    return {
      kind: 'none',
      reason: `${missing.map(([tool]) => tool).join(', ')} not found: apt-get install ${packages}`,
    };
  }
  if (attempt(['unshare', '--net', '--mount', '--', 'ip', 'link', 'set', 'lo', 'up'])) {
    return { kind: 'root', reason: 'this process may create network namespaces' };
  }
  if (attempt([...USER_NAMESPACE, 'sh', '-c', OWN_RUN, 'sh', 'true'])) {
    return { kind: 'userns', reason: 'network namespaces are available inside a user namespace' };
  }
  return {
    kind: 'none',
    reason:
      'neither network namespaces (need root, or CAP_SYS_ADMIN and CAP_NET_ADMIN) nor user namespaces are allowed here',
  };
}

/**
 * Runs a command as the root of a new user namespace with a network and a /run of its own, in which `availability()` is `root`; UIDs
 * other than 0 do not exist there. The caller owns the process.
 */
export function enterUserNamespace(argv: readonly string[], options: { stdio?: StdioOptions } = {}): ChildProcess {
  const [unshare, ...flags] = USER_NAMESPACE;
  return spawn(unshare, [...flags, 'sh', '-c', OWN_RUN, 'sh', ...argv], {
    stdio: options.stdio ?? 'inherit',
    env: toolEnvironment(),
  });
}

/** Where namespaces are made: in the machine's own list, or in a user namespace that lasts as long as this object. */
export class Enclosure {
  readonly isolation: Isolation;
  readonly #holder: ChildProcess | null;

  private constructor(isolation: Isolation, holder: ChildProcess | null) {
    this.isolation = isolation;
    this.#holder = holder;
  }

  static async open(isolation: Isolation): Promise<Enclosure> {
    if (isolation === 'root') return new Enclosure('root', null);
    // The holder ends with its standard input, so also when this process is killed; the kernel then takes down the namespaces.
    const holder = enterUserNamespace(['sh', '-c', 'echo ready && exec cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
    const [first] = await Promise.race([once(holder.stdout ?? holder, 'data'), once(holder, 'close')]);
    if (!String(first).startsWith('ready')) {
      throw new PosternError(
        'ERR_NETWORK_USER_NAMESPACE',
        'a user namespace with a network of its own could not be made',
        {
          exitCode: EXIT.unavailable,
        },
      );
    }
    holder.unref();
    return new Enclosure('userns', holder);
  }

  /** The command as it is to be run from here: inside the user namespace where there is one, in the same working directory. */
  command(argv: readonly string[], cwd: string): [string, ...string[]] {
    const [program = '', ...args] = argv;
    const pid = this.#holder?.pid;
    if (pid === undefined) return [program, ...args];
    const enter = ['--target', String(pid), '--user', '--mount', '--net', '--preserve-credentials', '--'];
    return ['nsenter', ...enter, 'env', `--chdir=${cwd}`, program, ...args];
  }

  async close(): Promise<void> {
    const holder = this.#holder;
    if (holder === null || holder.exitCode !== null || holder.signalCode !== null) return;
    const closed = once(holder, 'close');
    holder.ref(); // or the loop could run dry while we wait
    holder.kill('SIGKILL');
    await closed;
  }
}
