import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PosternError } from '../../mesh/errors.ts';
import { type Cores, chooseCores } from './cores.ts';
import { Processes } from './processes.ts';
import { locateTools, type Tool } from './tools.ts';

/**
 * What a run stands on: a temporary directory, processes, two cores, the tools. Disposed once, on every way out.
 * This very process (it drives the load) is pinned to the load core, and with it all it starts unless it says otherwise.
 */
export class Workbench {
  readonly directory: string;
  readonly cores: Cores;
  readonly tools: { readonly [tool in Tool]: string };
  readonly processes: Processes;
  readonly signal: AbortSignal;
  readonly #onExit = (): void => {
    this.processes.killAll();
    rmSync(this.directory, { recursive: true, force: true });
  };

  /** @throws PosternError with exit code 69 where the machine lacks a tool or a core. */
  constructor(signal: AbortSignal) {
    this.signal = signal;
    this.tools = locateTools();
    this.cores = chooseCores();
    execFileSync(this.tools.taskset, ['-a', '-c', '-p', String(this.cores.load), String(process.pid)], {
      stdio: 'ignore',
    });
    this.processes = new Processes(this.tools);
    this.directory = mkdtempSync(join(tmpdir(), 'postern-bench-'));
    process.once('exit', this.#onExit);
  }

  path(...names: readonly string[]): string {
    return join(this.directory, ...names);
  }

  /** @throws AbortError where the run was interrupted. */
  async sleep(milliseconds: number): Promise<void> {
    await delay(milliseconds, undefined, { signal: this.signal });
  }

  /** Waits for `condition`, asked ten times a second. @throws PosternError ERR_BENCH_NOT_READY after `timeoutMs`. */
  async until(what: string, timeoutMs: number, condition: () => Promise<boolean> | boolean): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!(await condition())) {
      if (performance.now() > deadline) {
        throw new PosternError('ERR_BENCH_NOT_READY', `${what}: not within ${timeoutMs / 1000} s`);
      }
      await this.sleep(100);
    }
  }

  async dispose(): Promise<void> {
    await this.processes.stopAll();
    rmSync(this.directory, { recursive: true, force: true });
    process.removeListener('exit', this.#onExit);
  }
}
