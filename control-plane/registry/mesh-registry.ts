import type { Logger } from 'pino';
import type { Problem } from '../../policy/types.ts';
import { FIXED } from '../config.ts';
import { Debounce } from '../debounce.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import { buildSnapshot, type RegistryInputs, type Snapshot } from './snapshot.ts';

export interface MeshRegistryOptions {
  /** The state of everything at this moment. */
  readonly inputs: () => RegistryInputs;
  readonly publish: (snapshot: Snapshot, changedAt: number) => void;
  readonly onProblems: (problems: readonly Problem[]) => void;
  readonly metrics: ControlPlaneMetrics;
  readonly log: Logger;
}

/** Turns bursts of changes into snapshots. The only place that makes them; whoever reads one keeps it as long as it likes. */
export class MeshRegistry {
  readonly #options: MeshRegistryOptions;
  readonly #debounce: Debounce;
  #snapshot: Snapshot | null = null;
  /** Of the first change that no snapshot holds yet, on the clock of `performance.now()`. */
  #changedAt: number | null = null;

  constructor(options: MeshRegistryOptions) {
    this.#options = options;
    this.#debounce = new Debounce(FIXED.push.debounceMs, FIXED.push.debounceMaxMs, () => this.build());
  }

  changed(at: number = performance.now()): void {
    this.#changedAt = Math.min(at, this.#changedAt ?? at);
    this.#debounce.trigger();
  }

  /** Takes the present state at once. */
  build(): void {
    const changedAt = this.#changedAt ?? performance.now();
    this.#changedAt = null;
    const { inputs, publish, onProblems, metrics, log } = this.#options;
    const end = metrics.snapshotDuration.startTimer();
    try {
      this.#snapshot = buildSnapshot(inputs(), this.#snapshot);
    } catch (error) {
      // Nothing should get here that was accepted; if it does, the mesh keeps what it has.
      log.error({ err: error }, 'no snapshot could be built: sidecars keep what they have');
      return;
    }
    end();
    onProblems(this.#snapshot.problems);
    publish(this.#snapshot, changedAt);
  }

  stop(): void {
    this.#debounce.stop();
  }
}
