import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, PosternError } from '../../mesh/errors.ts';

export interface Launch {
  /** For messages and log files. */
  readonly name: string;
  /** Absolute path. */
  readonly command: string;
  readonly args: readonly string[];
  readonly core: number;
  /** File that stdout is appended to; /dev/null where absent. */
  readonly stdout?: string;
  /** File that stderr is appended to; quoted in the error when the process ends early. */
  readonly stderr: string;
  readonly env?: { readonly [name: string]: string };
}

export interface RunningProcess {
  readonly name: string;
  readonly pid: number;
  /** @throws PosternError ERR_BENCH_PROCESS where the process has ended by itself. */
  assertRunning(): void;
  /** SIGTERM, then SIGKILL after the grace time; resolves when it is gone. */
  stop(): Promise<void>;
}

const GRACE_MS = 5_000;
const OUTPUT_LIMIT = 1024 * 1024;
const TAIL = 800;

/**
 * Owner of every process that the benchmark starts. ALWAYS: a process is in `#live` from spawn until its exit event, so that `stopAll` and `killAll` reach all.
 * Beyond that the kernel kills them when this process dies unexpectedly (setpriv --pdeathsig).
 */
export class Processes {
  readonly #live = new Set<ChildProcess>();
  readonly #setpriv: string;
  readonly #taskset: string;
  #closed = false;

  constructor(tools: { readonly setpriv: string; readonly taskset: string }) {
    this.#setpriv = tools.setpriv;
    this.#taskset = tools.taskset;
  }

  /** Starts a long-lived process pinned to a core. Both wrappers exec, so the PID is that of the command itself. */
  start(launch: Launch): RunningProcess {
    const stdout = openSync(launch.stdout ?? '/dev/null', 'a');
    const stderr = openSync(launch.stderr, 'a');
    try {
      const child = this.#spawn(launch, ['ignore', stdout, stderr]);
      const { pid } = child;
      if (pid === undefined) throw failure(launch, 'cannot be started');
      let ending = false;
      return {
        name: launch.name,
        pid,
        assertRunning: () => {
          if (!ending && hasEnded(child)) throw failure(launch, howItEnded(child));
        },
        stop: () => {
          ending = true;
          return terminate(child);
        },
      };
    } finally {
      closeSync(stdout);
      closeSync(stderr);
    }
  }

  /**
   * Runs a command to its end and gives its stdout.
   * @throws PosternError ERR_BENCH_PROCESS where it fails, writes over 1 MiB or takes longer than `timeoutMs`.
   */
  async run(launch: Omit<Launch, 'stdout'>, timeoutMs: number): Promise<string> {
    const stderr = openSync(launch.stderr, 'a');
    let child: ChildProcess;
    try {
      child = this.#spawn(launch, ['ignore', 'pipe', stderr]);
    } finally {
      closeSync(stderr);
    }
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
      if (output.length > OUTPUT_LIMIT) child.kill('SIGKILL');
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    try {
      await closed(child);
    } finally {
      clearTimeout(timer);
    }
    if (child.exitCode !== 0) throw failure(launch, howItEnded(child));
    return output;
  }

  /** Ends everything that still runs, all at once. Nothing can be started afterwards. */
  async stopAll(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#live].map(terminate));
  }

  /** For the `exit` event, where nothing can be awaited. */
  killAll(): void {
    for (const child of this.#live) child.kill('SIGKILL');
  }

  #spawn(launch: Omit<Launch, 'stdout'>, stdio: ['ignore', number | 'pipe', number]): ChildProcess {
    if (this.#closed) throw new PosternError('ERR_BENCH_ENDED', `not starting ${launch.name}: the benchmark is ending`);
    const pinned = ['-c', String(launch.core), launch.command, ...launch.args];
    const child = spawn(this.#setpriv, ['--pdeathsig', 'KILL', this.#taskset, ...pinned], {
      stdio,
      env: { ...process.env, ...launch.env },
    });
    this.#live.add(child);
    child.once('error', () => this.#live.delete(child)); // could not be spawned; `closed` and the missing PID tell
    child.once('exit', () => this.#live.delete(child));
    return child;
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function howItEnded(child: ChildProcess): string {
  return child.signalCode === null ? `ended with exit code ${child.exitCode}` : `was ended by ${child.signalCode}`;
}

/** After the exit and the end of its output. */
function closed(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('close', () => resolve());
    child.once('error', (cause) =>
      reject(new PosternError('ERR_BENCH_PROCESS', `cannot start: ${messageOf(cause)}`, { cause })),
    );
  });
}

async function terminate(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const grace = new AbortController();
  await Promise.race([gone, sleep(GRACE_MS, undefined, { signal: grace.signal }).catch(() => undefined)]);
  grace.abort();
  if (!hasEnded(child)) child.kill('SIGKILL');
  await gone;
}

function failure(launch: { readonly name: string; readonly stderr: string }, what: string): PosternError {
  const tail = readFileSync(launch.stderr, 'utf8').trimEnd().slice(-TAIL);
  return new PosternError(
    'ERR_BENCH_PROCESS',
    `${launch.name} ${what}${tail === '' ? ', without a word on stderr' : `; its last words:\n${tail}`}`,
  );
}
