import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../mesh/errors.ts';
import type { Machine } from './machine.ts';
import type { DialResult } from './probe-dial.ts';
import type { PeerTask } from './probe-peer.ts';

/*
 * What comes from this machine itself never passes the inbound rules. So the inbound probe comes from outside: from a program in a network
 * namespace of its own, joined to this one by a veth pair that exists for the duration of the probe.
 */

/** RFC 2544 (benchmarks) and RFC 4193 (an arbitrary global ID): in use nowhere, so that the link's routes hide nothing. */
export const INBOUND_PROBE = {
  device: 'postern-probe',
  ipv4: { local: '198.18.213.1', peer: '198.18.213.2', prefix: 30 },
  ipv6: { local: 'fd2a:9c57:1b63::1', peer: 'fd2a:9c57:1b63::2', prefix: 126 },
} as const;

const PEER_PROGRAM = fileURLToPath(new URL('./probe-peer.ts', import.meta.url));
const MAX_OUTPUT_BYTES = 16 * 1024;
/** Start of the peer's process. */
const START_TIMEOUT_MS = 10_000;

type Peer = ChildProcessByStdio<Writable, Readable, null>;

/** The peer's output: first `ready`, then, after the task, its results. Ends with the process. */
async function* output(peer: Peer): AsyncGenerator<string> {
  let seen = '';
  for await (const chunk of peer.stdout) {
    seen += String(chunk);
    if (seen.length > MAX_OUTPUT_BYTES) return;
    yield seen;
  }
}

async function startPeer(machine: Machine, unshare: string): Promise<Peer | null> {
  if (machine.locate('ip') === null || machine.locate('nsenter') === null) return null;
  const peer = spawn(unshare, ['--net', '--', process.execPath, PEER_PROGRAM], { stdio: ['pipe', 'pipe', 'ignore'] });
  peer.stdin.on('error', () => {});
  await once(peer, 'spawn');
  return peer;
}

async function ip(machine: Machine, enter: readonly string[], lines: readonly string[]): Promise<void> {
  const [program = 'ip', ...args] = [...enter, machine.locate('ip') ?? 'ip', '-batch', '-'];
  const result = await machine.run([program, ...args], `${lines.join('\n')}\n`);
  if (result.status !== 0) throw new Error(`ip: ${result.stderr.trim().split('\n')[0] ?? ''}`);
}

/** Joins the peer's namespace to this one. It goes away with the peer's namespace, that is with the peer. */
async function link(machine: Machine, pid: number, families: readonly ('ipv4' | 'ipv6')[]): Promise<void> {
  const { device } = INBOUND_PROBE;
  const addresses = (side: 'local' | 'peer'): string[] =>
    families.map((family) => {
      const { [side]: address, prefix } = INBOUND_PROBE[family];
      return `addr add ${address}/${prefix} dev ${device}${family === 'ipv6' ? ' nodad' : ''}`;
    });
  await ip(
    machine,
    [],
    [`link add ${device} type veth peer name ${device} netns ${pid}`, ...addresses('local'), `link set ${device} up`],
  );
  const enter = [machine.locate('nsenter') ?? 'nsenter', `--net=/proc/${pid}/ns/net`, '--'];
  await ip(machine, enter, [...addresses('peer'), `link set ${device} up`]);
}

/**
 * Dials `targets` from outside. A string is the reason why that is not possible here: it needs CAP_SYS_ADMIN besides CAP_NET_ADMIN, and
 * `ip` and `nsenter`.
 */
export async function dialFromOutside(
  task: PeerTask,
  families: readonly ('ipv4' | 'ipv6')[],
  machine: Machine,
): Promise<DialResult[] | string> {
  const unshare = machine.locate('unshare');
  if (unshare === null) return 'unshare (util-linux) was not found';
  let peer: Peer | null = null;
  const deadline = AbortSignal.timeout(START_TIMEOUT_MS + task.timeoutMs);
  const kill = (): void => void peer?.kill('SIGKILL');
  try {
    peer = await startPeer(machine, unshare);
    if (peer === null) return 'ip (iproute2) or nsenter (util-linux) was not found';
    deadline.addEventListener('abort', kill);
    const lines = output(peer);
    const first = await lines.next();
    if (first.done || peer.pid === undefined) return 'no network namespace can be made here (it needs CAP_SYS_ADMIN)';
    await link(machine, peer.pid, families);
    peer.stdin.end(JSON.stringify(task));
    let last = '';
    for await (const seen of lines) last = seen;
    return JSON.parse(last.replace(/^ready\n/, ''));
  } catch (error) {
    return `the probe's link could not be set up: ${messageOf(error)}`;
  } finally {
    deadline.removeEventListener('abort', kill);
    await removePeer(peer, machine);
  }
}

async function removePeer(peer: Peer | null, machine: Machine): Promise<void> {
  if (peer === null) return;
  if (peer.exitCode === null && peer.signalCode === null) {
    const closed = once(peer, 'close');
    peer.kill('SIGKILL');
    await closed;
  }
  // The kernel takes down a dead namespace's links in its own time; a validation that follows at once would find the name in use.
  await machine.run([machine.locate('ip') ?? 'ip', 'link', 'delete', INBOUND_PROBE.device]);
}
