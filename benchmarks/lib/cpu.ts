import { readdirSync, readFileSync } from 'node:fs';

/**
 * CPU time of a process, user and system, all threads. Two sources, because neither is enough: `task/TID/schedstat` counts nanoseconds but forgets a thread
 * that ended; `stat` remembers it but counts ticks of 10 ms. Either lags behind a thread that runs this very moment by up to one scheduler tick.
 */
export interface CpuSnapshot {
  /** Nanoseconds by thread ID. */
  readonly threads: ReadonlyMap<number, number>;
  readonly ticks: number;
}

// USER_HZ (proc_pid_stat(5)): 100 on every architecture that Node supports on Linux, whatever the kernel's own HZ.
const NANOSECONDS_PER_TICK = 1e9 / 100;

/** utime + stime, fields 14 and 15 of /proc/PID/stat; counted from behind the name, which may hold blanks and parentheses. */
export function parseStatTicks(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** The first number of schedstat: time on the CPU, nanoseconds. */
export function parseSchedstat(text: string): number {
  return Number(text.slice(0, text.indexOf(' ')));
}

/** @throws ENOENT where the process is gone. */
export function snapshotCpu(pid: number): CpuSnapshot {
  const threads = new Map<number, number>();
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const nanoseconds = readThread(pid, tid);
    if (nanoseconds !== null) threads.set(Number(tid), nanoseconds);
  }
  return { threads, ticks: parseStatTicks(readFileSync(`/proc/${pid}/stat`, 'utf8')) };
}

function readThread(pid: number, tid: string): number | null {
  try {
    return parseSchedstat(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8'));
  } catch {
    return null; // ended between the listing and now, or a kernel without CONFIG_SCHED_INFO
  }
}

/** Nanoseconds between two snapshots of one process. */
export function cpuBetween(before: CpuSnapshot, after: CpuSnapshot): number {
  const lost = after.threads.size === 0 || [...before.threads.keys()].some((tid) => !after.threads.has(tid));
  if (lost) return (after.ticks - before.ticks) * NANOSECONDS_PER_TICK;
  let sum = 0;
  for (const [tid, nanoseconds] of after.threads) sum += nanoseconds - (before.threads.get(tid) ?? 0);
  return sum;
}

/** A running sum over several processes: `stop` says what they used together since `start`, in nanoseconds. */
export function startCpuMeter(pids: readonly number[]): { stop(): number } {
  const before = pids.map(snapshotCpu);
  return {
    stop: () =>
      pids.map(snapshotCpu).reduce((sum, after, index) => {
        const start = before[index];
        return start === undefined ? sum : sum + cpuBetween(start, after);
      }, 0),
  };
}
