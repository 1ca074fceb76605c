import { eventually, within } from '../eventually.ts';
import type { AppCommand, AppEvent, GetResult, LoadFailure } from './app.ts';
import type { PodRunner } from './pod-runner.ts';

type Unnumbered = AppCommand extends infer One ? (One extends AppCommand ? Omit<One, 'id'> : never) : never;

export interface LoadResult {
  readonly requests: number;
  readonly failures: readonly LoadFailure[];
}

const TIMEOUT_MS = 10_000;
let nextId = 1;

/** The test application in a pod: has it make calls. */
export class AppPod {
  readonly pod: PodRunner;

  constructor(pod: PodRunner) {
    this.pod = pod;
  }

  /** One request on a connection of its own. */
  async get(url: string, timeoutMs = TIMEOUT_MS): Promise<GetResult> {
    return (await this.#result('got', this.#tell({ do: 'get', url, timeoutMs }))) as GetResult;
  }

  /** Waits until a request is answered so. */
  async until(url: string, status: number, timeoutMs = 60_000): Promise<GetResult> {
    let last: GetResult | null = null;
    const check = async (): Promise<GetResult | false> => {
      last = await this.get(url, 5_000);
      return last.status === status && last;
    };
    return await eventually(check, { what: `${status} from ${url}`, timeoutMs, everyMs: 20 }).catch(
      (error: unknown) => {
        throw new Error(`${url} is answered ${JSON.stringify(last)}, not ${status}`, { cause: error });
      },
    );
  }

  /** Waits until this pod has answered a request: from then on the caller's sidecar knows it. */
  async untilAnsweredBy(url: string, pod: string): Promise<void> {
    const isAnswered = async (): Promise<boolean> => {
      const { status, body } = await this.get(url);
      return status === 200 && (JSON.parse(body) as { pod: string }).pod === pod;
    };
    await eventually(isAnswered, { what: `an answer of ${pod}` });
  }

  /** Requests without pause until `stop`. */
  load(url: string, loops = 4, pauseMs = 20): { stop(): Promise<LoadResult> } {
    const id = this.#tell({ do: 'load', url, loops, pauseMs });
    return {
      stop: async () => {
        this.#write({ do: 'stop', id });
        const { requests, failures } = (await this.#result('stopped', id)) as LoadResult;
        return { requests, failures };
      },
    };
  }

  #tell(command: Unnumbered): number {
    const id = nextId++;
    this.#write({ ...command, id } as AppCommand);
    return id;
  }

  #write(command: AppCommand): void {
    this.pod.container('app').process.stdin?.write(`${JSON.stringify(command)}\n`);
  }

  async #result(type: AppEvent['type'], id: number): Promise<AppEvent> {
    const { stdout, exited } = this.pod.container('app').process.child;
    const start = `{"type":"${type}","id":${id},`;
    const found = async (): Promise<string> =>
      eventually(() => stdout.find((line) => line.startsWith(start)), {
        what: `${type} of the application in ${this.pod.key}`,
        everyMs: 5,
      });
    const ended = exited.then(() => {
      throw new Error(`the application in ${this.pod.key} ended`);
    });
    ended.catch(() => undefined);
    return JSON.parse(await within(Promise.race([found(), ended]), 35_000, type)) as AppEvent;
  }
}
