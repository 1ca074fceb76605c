import type { RunningProcess } from './processes.ts';

/** The two processes of a contender. */
export class ProxyPair {
  readonly #name: string;
  #processes: readonly [client: RunningProcess, server: RunningProcess] | null = null;

  constructor(name: string) {
    this.#name = name;
  }

  set(client: RunningProcess, server: RunningProcess): void {
    this.#processes = [client, server];
  }

  /** @throws Error before `set` */
  get pids(): readonly [client: number, server: number] {
    if (this.#processes === null) throw new Error(`${this.#name} is not started`);
    return [this.#processes[0].pid, this.#processes[1].pid];
  }

  /** @throws PosternError where one of them has ended by itself */
  assertRunning(): void {
    for (const running of this.#processes ?? []) running.assertRunning();
  }

  async stop(): Promise<void> {
    await Promise.all((this.#processes ?? []).map((running) => running.stop()));
  }
}
