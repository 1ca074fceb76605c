import type { ChildProcess } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, PosternError } from '../mesh/errors.ts';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Lines shown where a process ends unexpectedly. */
const REMEMBERED_LINES = 12;

/** A child process with its output in a log file, known by its lines, and ended exactly once. */
export class ManagedProcess {
  readonly name: string;
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  readonly #listeners = new Set<(line: string) => void>();
  readonly #lastLines: string[] = [];
  #exit: Exit | null = null;
  #stopping = false;

  constructor(name: string, child: ChildProcess, logFile: string) {
    this.name = name;
    this.#child = child;
    this.#log = createWriteStream(logFile, { flags: 'a', mode: 0o600 });
    // On a full disk the demo goes on without this log.
    this.#log.on('error', () => {});
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on('line', (line) => this.#onLine(line));
    }
    // Writing to one that has just ended fails; that it ended is told by `exited`.
    child.stdin?.on('error', () => {});
    this.exited = new Promise((resolve) => {
      const end = (exit: Exit): void => {
        if (this.#exit !== null) return;
        this.#exit = exit;
        if (this.#log.closed) resolve(exit);
        else this.#log.once('close', () => resolve(exit)).end();
      };
      child.once('error', (error) => {
        this.#onLine(error.message);
        end({ code: 127, signal: null });
      });
      child.once('close', (code, signal) => end({ code, signal }));
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get hasExited(): boolean {
    return this.#exit !== null;
  }

  onLine(listener: (line: string) => void): void {
    this.#listeners.add(listener);
  }

  send(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Rejects when the process ends without having been asked to; never resolves. */
  async untilFailure(): Promise<never> {
    const exit = await this.exited;
    if (this.#stopping) return await new Promise<never>(() => {});
    throw this.#failure(exit);
  }

  /** @throws PosternError where it ended badly or not in time. */
  async untilDone(timeoutMs: number): Promise<void> {
    const deadline = new AbortController();
    const late = sleep(timeoutMs, null, { signal: deadline.signal, ref: false }).catch(() => null);
    const exit = await Promise.race([this.exited, late]);
    deadline.abort();
    if (exit === null) {
      await this.stop(0);
      throw new PosternError('ERR_DEMO_PROCESS', `${this.name} did not end within ${timeoutMs} ms${this.#tail()}`);
    }
    if (exit.code !== 0) throw this.#failure(exit);
  }

  /** SIGTERM, after `graceMs` once more (a sidecar then ends without draining), then SIGKILL. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#child.stdin?.destroy();
    for (const signal of ['SIGTERM', 'SIGTERM', 'SIGKILL'] as const) {
      if (this.#exit !== null) return;
      this.#child.kill(signal);
      const waited = new AbortController();
      await Promise.race([this.exited, sleep(graceMs, null, { signal: waited.signal }).catch(() => null)]);
      waited.abort();
    }
    await this.exited;
  }

  #onLine(line: string): void {
    if (this.#log.writable) this.#log.write(`${line}\n`);
    this.#lastLines.push(line.length > 400 ? `${line.slice(0, 400)}…` : line);
    if (this.#lastLines.length > REMEMBERED_LINES) this.#lastLines.shift();
    for (const listener of this.#listeners) listener(line);
  }

  #tail(): string {
    return this.#lastLines.length === 0 ? '' : `; it last said:\n  ${this.#lastLines.join('\n  ')}`;
  }

  #failure({ code, signal }: Exit): PosternError {
    const how = signal === null ? `with code ${code}` : `by ${signal}`;
    return new PosternError('ERR_DEMO_PROCESS', `${this.name} ended ${how}${this.#tail()}`, {
      exitCode: EXIT.software,
    });
  }
}

/** All processes of the demo; `stopAll` ends every one of them, whatever state they are in. */
export class ProcessRoster {
  readonly #logs: string;
  readonly #members: ManagedProcess[] = [];
  readonly #failure = Promise.withResolvers<never>();
  #stopped = false;

  constructor(logs: string) {
    this.#logs = logs;
    // Nobody may be waiting for a failure when it comes; who asks later still learns of it.
    this.#failure.promise.catch(() => {});
  }

  /** Takes over a process that is to stay up. */
  add(name: string, child: ChildProcess): ManagedProcess {
    const member = this.#take(name, child);
    member.untilFailure().catch((error: unknown) => this.#failure.reject(error));
    return member;
  }

  /** Takes over a process that does one thing and ends. @throws PosternError where it ends badly or not in time. */
  async runToEnd(name: string, child: ChildProcess, timeoutMs: number): Promise<void> {
    await this.#take(name, child).untilDone(timeoutMs);
  }

  /** Rejects when one of those that are to stay up has ended; never resolves. */
  async untilFailure(): Promise<never> {
    return await this.#failure.promise;
  }

  async stopAll(graceMs: number): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#members.map((member) => member.stop(graceMs)));
  }

  #take(name: string, child: ChildProcess): ManagedProcess {
    const member = new ManagedProcess(name, child, join(this.#logs, `${name.replaceAll(/[^\w-]+/g, '-')}.log`));
    this.#members.push(member);
    // One that comes up while all are being ended would be forgotten.
    if (this.#stopped) void member.stop(0);
    return member;
  }
}
