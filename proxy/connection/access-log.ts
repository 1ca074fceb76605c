import type { Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import type { FromWorker } from '../worker/messages.ts';

/** Lines gathered for one message to the control thread. */
const FLUSH_MS = 50;
const FLUSH_BYTES = 64 * 1024;
/** Between two flushes at most this much: a flood of connections must not become a flood of memory. */
const MAX_BYTES = 2 * 1024 * 1024;

let stampedMs = Number.NaN;
let stamp = '';

/** Unix milliseconds as RFC 3339, as in every other line of the sidecar's log. Made once for all lines of one millisecond. */
export function timestamp(unixMs: number): string {
  if (unixMs !== stampedMs) {
    stamp = new Date(unixMs).toISOString();
    stampedMs = unixMs;
  }
  return stamp;
}

/** The end of the access log that lies in the worker: it batches whole lines, and drops (and counts) what is too much rather than wait. */
export class AccessLog {
  readonly #loop: Loop;
  readonly #post: (message: FromWorker) => void;
  readonly #onDropped: () => void;
  readonly #timer = new Timer(() => this.flush());
  #lines: string[] = [];
  #bytes = 0;

  constructor(loop: Loop, post: (message: FromWorker) => void, onDropped: () => void) {
    this.#loop = loop;
    this.#post = post;
    this.#onDropped = onDropped;
  }

  /** Whether one more line is taken; what is not counts as dropped. */
  accepts(): boolean {
    if (this.#bytes <= MAX_BYTES) return true;
    this.#onDropped();
    return false;
  }

  write(entry: { readonly [key: string]: unknown }): void {
    if (this.accepts()) this.writeLine(`${JSON.stringify(entry)}\n`);
  }

  /** A whole line of JSON with its newline, after `accepts`. */
  writeLine(line: string): void {
    this.#lines.push(line);
    this.#bytes += line.length;
    if (!this.#timer.armed) this.#loop.arm(this.#timer, FLUSH_MS);
    else if (this.#bytes > FLUSH_BYTES) this.#loop.arm(this.#timer, 0);
  }

  flush(): void {
    this.#loop.cancel(this.#timer);
    if (this.#lines.length === 0) return;
    this.#post({ type: 'access', lines: this.#lines.join('') });
    this.#lines = [];
    this.#bytes = 0;
  }
}
