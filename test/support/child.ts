import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { within } from './eventually.ts';

export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const MAX_LINES = 50_000;

/** Ends with the test process, however that ends. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A process under test: its output by lines, and its end. */
export class Child {
  readonly name: string;
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  readonly exited: Promise<ChildExit>;
  exit: ChildExit | null = null;
  readonly #child: ChildProcess;

  /** Takes over a child whose output is piped. */
  constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
    running.add(this.#child);
    for (const [stream, lines] of [
      [this.#child.stdout, this.stdout],
      [this.#child.stderr, this.stderr],
    ] as const) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        if (lines.length === MAX_LINES) lines.shift();
        lines.push(line);
      });
    }
    this.exited = once(this.#child, 'close').then(([code, signal]) => {
      running.delete(this.#child);
      this.exit = { code, signal };
      return this.exit;
    });
  }

  static start(
    name: string,
    file: string,
    args: readonly string[],
    environment: { readonly [name: string]: string } = {},
  ): Child {
    const env = { ...process.env, NO_COLOR: '1', ...environment };
    return new Child(name, spawn(file, args, { env, stdio: ['ignore', 'pipe', 'pipe'] }));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get alive(): boolean {
    return this.exit === null;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** The last of what it wrote, for messages. */
  tail(): string {
    const last = [...this.stdout.slice(-15), ...this.stderr.slice(-15)];
    return `${this.name} (pid ${this.pid}, ${JSON.stringify(this.exit)}) last wrote:\n  ${last.join('\n  ')}`;
  }

  /** SIGTERM, once more after `graceMs`, then SIGKILL. Whether it went without the last. */
  async stop(graceMs: number): Promise<boolean> {
    for (const signal of ['SIGTERM', 'SIGTERM'] as const) {
      if (!this.alive) return true;
      this.kill(signal);
      const ended = await within(this.exited, graceMs, `${this.name} to end`).then(
        () => true,
        () => false,
      );
      if (ended) return true;
    }
    this.kill('SIGKILL');
    await this.exited;
    return false;
  }
}

export interface Finished extends ChildExit {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. */
export async function run(file: string, args: readonly string[], timeoutMs = 30_000): Promise<Finished> {
  return await finish(Child.start(`${file} ${args.join(' ')}`, file, args), timeoutMs);
}

/** Waits for a child's end; kills it where that does not come in time. */
export async function finish(child: Child, timeoutMs: number): Promise<Finished> {
  try {
    const exit = await within(child.exited, timeoutMs, `${child.name} to end`);
    return { ...exit, stdout: child.stdout.join('\n'), stderr: child.stderr.join('\n') };
  } finally {
    if (child.alive) child.kill('SIGKILL');
  }
}
