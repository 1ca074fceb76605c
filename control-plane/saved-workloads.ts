import type { Logger } from 'pino';
import { messageOf } from '../mesh/errors.ts';
import type { ControlPlaneMetrics } from './metrics.ts';
import type { Platform } from './platform.ts';
import type { Registrations } from './registry/registrations.ts';

/**
 * The list of connected workloads, as the platform keeps it for the next start.
 *
 * ALWAYS: whom sidecars are told of is saved before they are: or a restart after a crash would take those endpoints away for a moment.
 */
export class SavedWorkloads {
  readonly #platform: Pick<Platform, 'saveWorkloads'>;
  readonly #log: Logger;
  readonly #metrics: ControlPlaneMetrics;
  /** Workloads have come or gone since the list was saved. */
  #behind = false;

  constructor(platform: Pick<Platform, 'saveWorkloads'>, log: Logger, metrics: ControlPlaneMetrics) {
    this.#platform = platform;
    this.#log = log;
    this.#metrics = metrics;
  }

  /** Workloads have come or gone. */
  changed(): void {
    this.#behind = true;
  }

  saveChanges(registrations: Registrations): void {
    if (this.#behind) this.save(registrations);
  }

  /** Never throws: a disk that is full must not end streams. */
  save(registrations: Registrations): void {
    try {
      this.#platform.saveWorkloads(registrations.list());
      this.#behind = false;
    } catch (error) {
      this.#metrics.storageErrors.inc();
      this.#log.error(`the list of connected workloads could not be saved; streams go on: ${messageOf(error)}`);
    }
  }
}
