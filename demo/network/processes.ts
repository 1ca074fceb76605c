import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 20;

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/** Whether a process of this PID exists (kill(2) with signal 0; EPERM: it does, and is not ours). */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** Ends a process that may be gone by now. */
export function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (isAlive(pid)) throw error;
  }
}

/** Ends children: asks, waits at most `graceMs`, then does not ask. Resolves when all are gone. */
export async function endProcesses(children: readonly ChildProcess[], graceMs: number): Promise<void> {
  const running = children.filter((child) => child.pid !== undefined && !hasEnded(child));
  for (const child of running) child.kill('SIGTERM');
  const deadline = performance.now() + graceMs;
  while (!running.every(hasEnded) && performance.now() < deadline) await sleep(POLL_MS);
  for (const child of running) if (!hasEnded(child)) child.kill('SIGKILL');
  while (!running.every(hasEnded)) await sleep(POLL_MS);
}
