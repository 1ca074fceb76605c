import type { Logger } from 'pino';

/** What is wrong now, by topic: said in the log when it begins or becomes another, and when it is over. */
export class Complaints {
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly #current = new Map<string, string>();

  constructor(log: Pick<Logger, 'info' | 'warn' | 'error'>) {
    this.#log = log;
  }

  raise(topic: string, text: string, level: 'warn' | 'error'): void {
    if (this.#current.get(topic) === text) return;
    this.#current.set(topic, text);
    this.#log[level](text);
  }

  /** `text` is said where something had been wrong. */
  settle(topic: string, text: string): void {
    if (this.#current.delete(topic)) this.#log.info(text);
  }
}
