import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import type { Host } from '../../../demo/network.ts';
import { Child, type Finished, finish } from '../child.ts';
import { eventually } from '../eventually.ts';
import { type ContainerPlan, identityOf, REPOSITORY } from './container-plan.ts';

/**
 * Makes the container's root, in a mount namespace of its own, and starts the command there. Nothing forks: the process stays the one that was
 * started. The image's files are this machine's, which nobody can write; the rest is a tmpfs. Each line of MOUNTS: source, target, ro or rw.
 */
const ENTER = `set -eu
root=$1 repository=$2 readonly=$3
shift 3
tab=$(printf '\\t')
mount -t tmpfs -o mode=755,size=64m tmpfs "$root"
cd "$root"
mkdir -p dev etc opt/postern/bin proc run sys tmp var
chmod 1777 tmp
ln -s ../run var/run
ln -s "$repository/bin/postern" opt/postern/bin/postern
for top in /bin /lib /lib32 /lib64 /sbin /usr "$repository"; do
  if [ -L "$top" ]; then cp -P "$top" ".$top"; continue; fi
  [ -d "$top" ] || continue
  mkdir -p ".$top"
  mount --bind "$top" ".$top"
  mount -o remount,bind,ro ".$top"
done
for file in passwd group ld.so.cache; do [ ! -e "/etc/$file" ] || cp "/etc/$file" etc; done
echo 'hosts: files' >etc/nsswitch.conf
ln -s node/hosts etc/hosts
mount --rbind /dev dev
mount --rbind /proc proc
mount --bind /proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --rbind /sys sys
printf '%s\\n' "$MOUNTS" | while IFS="$tab" read -r from to how; do
  mkdir -p ".$to"
  mount --bind "$from" ".$to"
  [ "$how" = rw ] || mount -o remount,bind,ro ".$to"
done
[ "$readonly" = no ] || mount -o remount,bind,ro .
exec chroot . "$@"
`;

/** A container's process on its node. */
export class ContainerProcess {
  readonly child: Child;
  readonly stdin: ChildProcess['stdin'];
  readonly startedAt = new Date();
  readonly #plan: ContainerPlan;

  private constructor(child: Child, stdin: ChildProcess['stdin'], plan: ContainerPlan) {
    this.child = child;
    this.stdin = stdin;
    this.#plan = plan;
  }

  /** @param root an empty directory of the node, made where it is not there */
  static start(name: string, host: Host, plan: ContainerPlan, root: string): ContainerProcess {
    mkdirSync(root, { recursive: true });
    const mounts = plan.mounts.map(({ source, target, readOnly }) => `${source}\t${target}\t${readOnly ? 'ro' : 'rw'}`);
    const argv = [
      ...['unshare', '--mount', '--propagation', 'private', 'sh', '-c', ENTER, 'sh'],
      ...[root, REPOSITORY, plan.readOnlyRoot ? 'yes' : 'no'],
      ...identityOf(plan),
      ...plan.argv,
    ];
    const child = host.exec(argv, { env: { ...process.env, MOUNTS: mounts.join('\n') }, cwd: '/' });
    return new ContainerProcess(new Child(name, child), child.stdin, plan);
  }

  /** Runs a command beside it, as `kubectl exec` does. */
  async exec(argv: readonly string[], timeoutMs: number): Promise<Finished> {
    const { child } = this;
    await this.#entered();
    const inside = [
      'nsenter',
      `--target=${child.pid}`,
      '--mount',
      '--net',
      '--root',
      '--wd',
      '--',
      ...identityOf(this.#plan),
    ];
    const [program = '', ...args] = [...inside, ...argv];
    const started = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    return await finish(new Child(`${argv.slice(0, 3).join(' ')} in ${child.name}`, started), timeoutMs);
  }

  /** What runs beside it must find the container's root, not the node's. */
  async #entered(): Promise<void> {
    const { child } = this;
    const inside = (): boolean => !ENTERING.has(readFileSync(`/proc/${child.pid}/comm`, 'utf8').trim());
    await eventually(() => !child.alive || inside(), { what: `${child.name} to be in its container`, everyMs: 5 });
  }
}

/** The programs by which a process comes into its container, one after the other. */
const ENTERING = new Set(['nsenter', 'unshare', 'sh', 'chroot', 'setpriv', 'env']);
