import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../../demo/network.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import type { Finished } from '../child.ts';
import { at, textAt, textsAt, timestamp } from '../kubernetes/objects.ts';
import type { ContainerPlan } from './container-plan.ts';
import { ContainerProcess } from './container-process.ts';
import { attempt } from './probes.ts';

/** Milliseconds before a container that has ended is started again: at first, and at most. */
const BACK_OFF_MS = { first: 200, most: 10_000 } as const;
const HOOK_TIMEOUT_MS = 60_000;

export interface ContainerOptions {
  readonly spec: JsonObject;
  readonly host: Host;
  /** Where the process's root is made. */
  readonly root: string;
  readonly plan: () => ContainerPlan;
  /** Whether it is started again after this exit code. */
  readonly restarts: (exitCode: number) => boolean;
  readonly onChange: () => void;
}

interface Ended {
  readonly exitCode: number;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly reason: string;
}

/** One container of a pod through all of its processes: started, probed, started again, stopped. */
export class PodContainer {
  readonly name: string;
  readonly #options: ContainerOptions;
  #process: ContainerProcess | null = null;
  #ended: Ended | null = null;
  #waiting = 'PodInitializing';
  #restarts = 0;
  #started = false;
  #ready = false;
  #stopping = false;
  readonly #over = Promise.withResolvers<number>();
  readonly #startedOnce = Promise.withResolvers<void>();
  /** Of all processes, one after the other. */
  readonly lines: string[] = [];

  constructor(options: ContainerOptions) {
    this.#options = options;
    this.name = textAt(options.spec, 'name');
  }

  /** Its exit code, when it has ended for good. */
  get over(): Promise<number> {
    return this.#over.promise;
  }

  get exitCode(): number | null {
    return this.#process === null && this.#isOver ? (this.#ended?.exitCode ?? 0) : null;
  }

  get isReady(): boolean {
    return this.#ready;
  }

  get isRunning(): boolean {
    return this.#process !== null;
  }

  get restarts(): number {
    return this.#restarts;
  }

  get process(): ContainerProcess {
    if (this.#process === null) throw new Error(`container ${this.name} does not run`);
    return this.#process;
  }

  #isOver = false;

  /**
   * Resolves when the process runs, its start hook has ended, and, for `untilStarted`, its startup probe has succeeded: that of a later process where this
   * one ends before.
   */
  async start(untilStarted: boolean): Promise<void> {
    if (this.#stopping) return this.#finish();
    const { host, plan, root, spec } = this.#options;
    const process = ContainerProcess.start(this.name, host, plan(), `${root}-${this.#restarts}`);
    this.#process = process;
    this.#options.onChange();
    void process.child.exited.then(({ code, signal }) =>
      this.#exited(process, code ?? (signal === 'SIGKILL' ? 137 : 143)),
    );
    const hook = at(spec, 'lifecycle', 'postStart');
    if (hook !== undefined) await this.#hook(hook);
    void this.#probe(process);
    if (untilStarted) await Promise.race([this.#startedOnce.promise, this.over]);
  }

  /** As the kubelet: the hook, then whoever has to end earlier, then the signal, all within the time. */
  async stop(graceMs: number, turn: Promise<unknown>): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    const deadline = Date.now() + graceMs;
    const left = (): number => Math.max(0, deadline - Date.now());
    const hook = at(this.#options.spec, 'lifecycle', 'preStop');
    if (hook !== undefined && this.#process !== null && graceMs > 0)
      await Promise.race([this.#hook(hook), sleep(left())]);
    await Promise.race([turn, sleep(left())]);
    if (this.#process === null) return this.#finish();
    this.#process.child.kill(graceMs > 0 ? 'SIGTERM' : 'SIGKILL');
    await Promise.race([this.over, sleep(Math.max(left(), graceMs > 0 ? 2_000 : 0))]);
    this.#process?.child.kill('SIGKILL');
    await this.over;
  }

  kill(signal: NodeJS.Signals): void {
    this.#process?.child.kill(signal);
  }

  status(): JsonObject {
    const { spec } = this.#options;
    const state: JsonValue =
      this.#process !== null
        ? { running: { startedAt: timestamp(this.#process.startedAt.getTime()) } }
        : this.#isOver && this.#ended !== null
          ? { terminated: { ...this.#ended } }
          : { waiting: { reason: this.#waiting } };
    return {
      name: this.name,
      image: textAt(spec, 'image'),
      imageID: '',
      ready: this.#ready,
      started: this.#started,
      restartCount: this.#restarts,
      state,
      lastState: this.#ended !== null && !this.#isOver ? { terminated: { ...this.#ended } } : {},
    };
  }

  /** What it wrote last, for messages. */
  tail(): string {
    return this.#process?.child.tail() ?? this.lines.slice(-30).join('\n');
  }

  get output(): readonly string[] {
    const child = this.#process?.child;
    return child === undefined ? this.lines : [...this.lines, ...child.stdout, ...child.stderr];
  }

  #exited(process: ContainerProcess, exitCode: number): void {
    const { restarts, onChange } = this.#options;
    this.lines.push(...process.child.stdout, ...process.child.stderr);
    this.#process = null;
    this.#ready = false;
    this.#started = false;
    this.#ended = {
      exitCode,
      startedAt: timestamp(process.startedAt.getTime()),
      finishedAt: timestamp(),
      reason: exitCode === 0 ? 'Completed' : 'Error',
    };
    if (this.#stopping || !restarts(exitCode)) {
      this.#finish();
      return;
    }
    this.#waiting = 'CrashLoopBackOff';
    onChange();
    const pauseMs = Math.min(BACK_OFF_MS.most, BACK_OFF_MS.first * 4 ** this.#restarts);
    this.#restarts++;
    void sleep(pauseMs).then(() => this.start(false));
  }

  #finish(): void {
    this.#isOver = true;
    this.#over.resolve(this.#ended?.exitCode ?? 0);
    this.#options.onChange();
  }

  async #hook(hook: JsonValue): Promise<void> {
    const argv = textsAt(hook, 'exec', 'command');
    const process = this.#process;
    if (process === null) return;
    const { code, stdout, stderr } = await process
      .exec(argv, HOOK_TIMEOUT_MS)
      .catch((error: unknown): Finished => ({ code: null, signal: null, stdout: '', stderr: String(error) }));
    if (code !== 0) this.lines.push(`hook ${argv.join(' ')} ended with ${code}: ${stdout}${stderr}`);
  }

  /** Of this process as long as it runs: the startup probe, then the others. */
  async #probe(process: ContainerProcess): Promise<void> {
    const { spec } = this.#options;
    const [startup, readiness, liveness] = ['startupProbe', 'readinessProbe', 'livenessProbe'].map((one) =>
      at(spec, one),
    );
    const runs = (): boolean => this.#process === process;
    if (startup !== undefined) await this.#startup(process, startup, runs);
    if (!runs()) return;
    this.#started = true;
    this.#startedOnce.resolve();
    this.#ready = readiness === undefined;
    this.#options.onChange();
    if (readiness !== undefined) {
      void this.#every(readiness, runs, (ok) => {
        if (this.#ready !== ok) {
          this.#ready = ok;
          this.#options.onChange();
        }
      });
    }
    if (liveness !== undefined)
      void this.#every(liveness, runs, (ok) => (ok || this.#stopping ? undefined : process.child.kill('SIGKILL')));
  }

  async #startup(process: ContainerProcess, probe: JsonValue, runs: () => boolean): Promise<void> {
    let failures = 0;
    for (;;) {
      // Sooner than a kubelet would: it looks every second at the most.
      await sleep(Math.min(200, Number(at(probe, 'periodSeconds') ?? 10) * 1000));
      if (!runs() || (await this.#ask(probe))) return;
      if (++failures < Number(at(probe, 'failureThreshold') ?? 3) * 5) continue;
      process.child.kill('SIGKILL');
      return;
    }
  }

  async #every(probe: JsonValue, runs: () => boolean, tell: (ok: boolean) => void): Promise<void> {
    let failures = 0;
    for (;;) {
      const ok = await this.#ask(probe);
      if (!runs()) return;
      failures = ok ? 0 : failures + 1;
      if (ok) tell(true);
      else if (failures >= Number(at(probe, 'failureThreshold') ?? 3)) tell(false);
      await sleep(Number(at(probe, 'periodSeconds') ?? 10) * 1000);
      if (!runs()) return;
    }
  }

  async #ask(probe: JsonValue): Promise<boolean> {
    const { host, spec } = this.#options;
    const exec = async (argv: readonly string[], timeoutMs: number): Promise<boolean> =>
      (await this.#process?.exec(argv, timeoutMs).catch(() => null))?.code === 0;
    return (await attempt(probe, { address: host.ipv4, container: spec, exec })) === null;
  }
}
