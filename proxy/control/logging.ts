import pino, { type DestinationStream, type Logger } from 'pino';
import type { LogLevel } from '../config.ts';

export type Log = Pick<Logger, 'trace' | 'debug' | 'info' | 'warn' | 'error'>;

/** The parts of pino's destination (sonic-boom) that are used here. */
interface Destination extends DestinationStream {
  flush(done: (error?: Error) => void): void;
  on(event: 'drop', listener: (text: string) => void): unknown;
}

/** Lines that wait for a slow reader of stdout; what comes on top is dropped and counted, because a proxy must not wait for its log. Bytes. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
const FLUSH_DEADLINE_MS = 1000;

/**
 * Everything that the sidecar prints: log lines, and the access-log lines that workers made, on one descriptor without blocking.
 * Secrets (private keys, join tokens, bodies of certificate requests) are never passed to it.
 */
export class Output {
  readonly logger: Logger;
  readonly #destination: Destination;
  #droppedLines = 0;

  constructor(options: {
    readonly level: LogLevel;
    readonly base: Readonly<Record<string, string>>;
    readonly fd?: number;
  }) {
    this.#destination = pino.destination({ dest: options.fd ?? 1, sync: false, maxLength: MAX_WAITING_BYTES });
    this.#destination.on('drop', (text) => {
      this.#droppedLines += text.split('\n').length - 1;
    });
    this.logger = pino(
      {
        level: options.level,
        base: options.base,
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
      },
      this.#destination,
    );
  }

  /** Lines that were dropped because nobody read them fast enough. */
  get droppedLines(): number {
    return this.#droppedLines;
  }

  get level(): string {
    return this.logger.level;
  }

  setLevel(level: LogLevel): void {
    this.logger.level = level;
  }

  /** Whole lines of JSON from a worker. */
  writeAccessLines(lines: string): void {
    this.#destination.write(lines);
  }

  /** A worker's log line, in the same form as the sidecar's own. */
  logForWorker(worker: number, level: string, msg: string, fields: Readonly<Record<string, unknown>>): void {
    const line = { ...fields, worker };
    switch (level) {
      case 'trace':
      case 'debug':
      case 'info':
      case 'warn':
        this.logger[level](line, msg);
        return;
      default:
        this.logger.error(line, msg);
    }
  }

  /** Waits until all is written, at most a second: the reader of stdout may be gone. */
  async flush(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FLUSH_DEADLINE_MS);
    });
    await Promise.race([new Promise<void>((resolve) => this.#destination.flush(() => resolve())), deadline]);
    clearTimeout(timer);
  }
}
