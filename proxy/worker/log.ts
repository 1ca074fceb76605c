import type { FromWorker } from './messages.ts';

const LEVELS: readonly string[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** The same message is told at most so often a second; what is left out is counted in the next one. */
const PER_SECOND = 20;

/** The worker's log: lines go to the control thread, which writes them. A flood of refusals must not become a flood of lines. */
export class WorkerLog {
  readonly #post: (message: FromWorker) => void;
  readonly #now: () => number;
  readonly #said = new Map<string, { since: number; count: number; left: number }>();
  #threshold: number;

  constructor(level: string, post: (message: FromWorker) => void, now: () => number) {
    this.#threshold = Math.max(0, LEVELS.indexOf(level));
    this.#post = post;
    this.#now = now;
  }

  set level(level: string) {
    this.#threshold = Math.max(0, LEVELS.indexOf(level));
  }

  get debug(): boolean {
    return this.#threshold <= 1;
  }

  write(level: string, msg: string, fields: { readonly [key: string]: unknown } = {}): void {
    if (LEVELS.indexOf(level) < this.#threshold) return;
    const now = this.#now();
    let said = this.#said.get(msg);
    if (said === undefined) {
      said = { since: now, count: 0, left: 0 };
      this.#said.set(msg, said); // messages are literals of our own code: a bounded set
    } else if (now - said.since > 1000) {
      said.since = now;
      said.count = 0;
    }
    if (++said.count > PER_SECOND) {
      said.left++;
      return;
    }
    const suppressed = said.left > 0 ? { suppressed: said.left } : {};
    said.left = 0;
    this.#post({ type: 'log', level, msg, fields: { ...fields, ...suppressed } });
  }
}
