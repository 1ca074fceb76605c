import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseCpuList } from '../../benchmarks/lib/cores.ts';
import { freePort } from '../../benchmarks/lib/ports.ts';
import { Processes } from '../../benchmarks/lib/processes.ts';
import { locate } from '../../benchmarks/lib/tools.ts';
import { eventually } from '../support/eventually.ts';

const setpriv = locate('setpriv');
const taskset = locate('taskset');
const directory = mkdtempSync(join(tmpdir(), 'bench-test-'));
const allowed = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
const core = parseCpuList(allowed)[0] ?? 0;
afterAll(() => rmSync(directory, { recursive: true }));

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(setpriv === null || taskset === null)('processes of the benchmark', () => {
  let processes: Processes;
  const shell = (script: string) => ({
    name: 'the script',
    command: '/bin/sh',
    args: ['-c', script],
    core,
    stderr: join(directory, 'stderr'),
  });

  beforeEach(() => {
    processes = new Processes({ setpriv: setpriv ?? '', taskset: taskset ?? '' });
  });
  afterEach(async () => {
    await processes.stopAll();
  });

  test('have the PID of the command itself, on its core', async () => {
    const running = processes.start(shell('exec sleep 60'));
    await eventually(() => readFileSync(`/proc/${running.pid}/comm`, 'utf8') === 'sleep\n', { what: 'the command' });
    const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
    expect(status).toMatch(new RegExp(`^Cpus_allowed_list:\\s*${core}$`, 'm'));
  });

  test('are gone after stopAll, and none can be started then', async () => {
    const pids = [processes.start(shell('exec sleep 60')).pid, processes.start(shell('exec sleep 61')).pid];
    await processes.stopAll();
    expect(pids.map(isAlive)).toEqual([false, false]);
    expect(() => processes.start(shell('true'))).toThrow(/ending/);
  });

  test('that end by themselves are told with their last words', async () => {
    const running = processes.start(shell('echo "bind: address in use" >&2; exit 3'));
    await expect
      .poll(() => {
        try {
          running.assertRunning();
          return '';
        } catch (thrown) {
          return String(thrown);
        }
      })
      .toMatch(/the script ended with exit code 3; its last words:\n(.*\n)*bind: address in use/);
  });

  test('that are run to their end give their output', async () => {
    expect(await processes.run(shell('echo done'), 10_000)).toBe('done\n');
    await expect(processes.run(shell('exit 4'), 10_000)).rejects.toThrow(/exit code 4/);
  });

  test('that take too long or say too much are ended', async () => {
    await expect(processes.run(shell('exec sleep 60'), 50)).rejects.toThrow(/SIGKILL/);
    await expect(processes.run(shell('exec yes'), 10_000)).rejects.toThrow(/SIGKILL/);
  });

  test('append their stdout to the file that was named', async () => {
    const stdout = join(directory, 'stdout');
    processes.start({ ...shell('echo line; exec sleep 60'), stdout });
    await eventually(() => readFileSync(stdout, 'utf8') === 'line\n', { what: 'the line' });
  });
});

test('free ports are below the ephemeral range and never given twice', async () => {
  const ports = await Promise.all(Array.from({ length: 20 }, () => freePort()));
  expect(new Set(ports).size).toBe(20);
  expect(ports.every((port) => port >= 20_000 && port < 32_768)).toBe(true);
});
