import { constants } from 'node:os';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/** The first SIGTERM, SIGINT or request on the admin port asks for a drain, a further signal for the end at once. */
export class StopSignals {
  readonly #drain = Promise.withResolvers<void>();
  readonly #end = Promise.withResolvers<void>();
  #draining = false;
  #signalled = false;
  #exitCode: number | null = null;
  readonly #listener = (signal: NodeJS.Signals): void => {
    this.#signalled = true;
    if (!this.#draining) {
      this.requestDrain();
      return;
    }
    // What a shell reports of a process that died by the signal.
    this.#exitCode = 128 + constants.signals[signal];
    this.#end.resolve();
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  get drainRequested(): Promise<void> {
    return this.#drain.promise;
  }

  get endRequested(): Promise<void> {
    return this.#end.promise;
  }

  /** Set by the signal that ended a drain: 143 for SIGTERM, 130 for SIGINT. */
  get exitCode(): number | null {
    return this.#exitCode;
  }

  requestDrain(): void {
    this.#draining = true;
    this.#drain.resolve();
  }

  /**
   * Signals do again what they do by default, except for the first: whoever asks a sidecar to stop that is stopping of its own accord must not make
   * its end look like a failure.
   */
  close(): void {
    for (const signal of SIGNALS) process.off(signal, this.#listener);
    if (this.#signalled) return;
    const ignore = (): void => {
      for (const signal of SIGNALS) process.off(signal, ignore);
    };
    for (const signal of SIGNALS) process.on(signal, ignore);
  }
}
