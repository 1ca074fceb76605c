import { errnoName } from './errno.ts';
import { bind, errno } from './library.ts';

/** setns(2), network_namespaces(7): for whoever plays a node of pods on one machine. */

const cSetns = bind<(fd: number, type: number) => number>('int setns(int, int)');

const CLONE_NEWNET = 0x40000000;

/**
 * Moves this thread into a network namespace: its sockets from now on, and the processes that it starts, are there.
 * @param fd of a file such as `/run/netns/NAME`; stays open
 * @throws Error where it is no network namespace, or CAP_SYS_ADMIN is missing
 */
export function enterNetworkNamespace(fd: number): void {
  if (cSetns(fd, CLONE_NEWNET) !== 0) throw new Error(`cannot enter the network namespace (${errnoName(errno())})`);
}
