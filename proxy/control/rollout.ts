import { keyOf, type RejectedResource } from '../../mesh/resources.ts';
import type { ToWorker } from '../worker/messages.ts';
import type { Clock } from './clock.ts';
import type { Log } from './logging.ts';
import type { Delta } from './server-message.ts';
import type { ResourceStore } from './store.ts';

/** A worker, as far as a rollout goes. */
export interface RolloutTarget {
  readonly index: number;
  send(message: ToWorker): void;
  /** It does not answer: end it, so that another takes its place. */
  giveUp(why: string): void;
}

interface Flight {
  readonly delta: Delta;
  /** Workers that have not answered yet. */
  readonly waiting: Set<RolloutTarget>;
  readonly rejected: Map<RejectedResource['key'], RejectedResource>;
  answers: number;
  /** Workers that ended before they answered. */
  crashes: number;
  readonly landed: () => void;
  cancelDeadline: () => void;
}

const APPLY_DEADLINE_MS = 30_000;
/** So many crashes are no coincidence: the delta itself is refused, or it would keep the data plane down for good. */
const MAX_CRASHES = 3;

/**
 * Brings deltas to every worker, one at a time, and into the store once all have them.
 *
 * ALWAYS: at most one delta is in flight; a worker that starts gets what is in force, then what is in flight; a worker that ends is not waited for,
 * but a delta lands only after at least one worker has it. One that every worker dies of is refused whole, provided there is a last good state.
 */
export class Rollout {
  readonly #store: ResourceStore;
  readonly #clock: Clock;
  readonly #log: Log;
  /** For each live worker the deltas it has yet to answer, in order; null stands for what it got at its start. */
  readonly #owed = new Map<RolloutTarget, (Flight | null)[]>();
  #flight: Flight | null = null;

  constructor(options: { readonly store: ResourceStore; readonly clock: Clock; readonly log: Log }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Resolves once the delta is in the store. The caller waits for that before the next. */
  async apply(delta: Delta): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const flight: Flight = {
      delta,
      waiting: new Set(),
      rejected: new Map(),
      answers: 0,
      crashes: 0,
      landed: resolve,
      cancelDeadline: () => {},
    };
    this.#flight = flight;
    this.#armDeadline(flight);
    for (const worker of this.#owed.keys()) this.#sendFlight(worker, flight);
    await promise;
  }

  workerStarted(worker: RolloutTarget): void {
    const owed: (Flight | null)[] = [];
    this.#owed.set(worker, owed);
    const snapshot = this.#store.snapshot();
    if (snapshot !== null) {
      owed.push(null);
      worker.send(message(snapshot));
    }
    if (this.#flight !== null) this.#sendFlight(worker, this.#flight);
  }

  workerApplied(worker: RolloutTarget, version: string, rejected: readonly RejectedResource[]): void {
    const owed = this.#owed.get(worker);
    if (owed === undefined || owed.length === 0) {
      this.#log.error({ worker: worker.index, version }, 'a worker answered resources that it was not sent');
      return;
    }
    const flight = owed.shift() ?? null;
    for (const { key, reason } of rejected) {
      this.#log.warn(
        { worker: worker.index, resource: key, version },
        `rejected, the last good one stays in force: ${reason}`,
      );
    }
    if (flight === null) return;
    flight.answers += 1;
    for (const resource of rejected) flight.rejected.set(resource.key, resource);
    flight.waiting.delete(worker);
    this.#landIfDone(flight);
  }

  workerEnded(worker: RolloutTarget): void {
    this.#owed.delete(worker);
    const flight = this.#flight;
    if (flight === null) return;
    if (flight.waiting.delete(worker)) flight.crashes += 1;
    if (flight.crashes >= MAX_CRASHES && flight.answers === 0 && this.#store.version !== null) this.#refuse(flight);
    else this.#landIfDone(flight);
  }

  /** Gives up on what is in flight. */
  close(): void {
    this.#flight?.cancelDeadline();
    this.#flight?.landed();
    this.#flight = null;
    this.#owed.clear();
  }

  #sendFlight(worker: RolloutTarget, flight: Flight): void {
    this.#owed.get(worker)?.push(flight);
    flight.waiting.add(worker);
    worker.send(message(flight.delta));
  }

  #landIfDone(flight: Flight): void {
    if (flight !== this.#flight || flight.waiting.size > 0 || flight.answers === 0) return;
    this.#land(flight, flight.delta, [...flight.rejected.values()]);
  }

  #refuse(flight: Flight): void {
    if (flight.waiting.size > 0) return;
    const { version, upserts, removes, unreadable } = flight.delta;
    const reason = `data-plane workers ended while they took version ${version}`;
    this.#log.error({ version }, `push refused: ${reason}; what was in force before stays`);
    const rejected = [...upserts.map(keyOf), ...removes].map((key) => ({ key, reason }));
    this.#land(flight, { version, full: false, upserts, removes: [], unreadable }, rejected);
  }

  #land(flight: Flight, delta: Delta, rejected: readonly RejectedResource[]): void {
    flight.cancelDeadline();
    this.#flight = null;
    this.#store.commit(delta, rejected, this.#clock.now());
    flight.landed();
  }

  #armDeadline(flight: Flight): void {
    flight.cancelDeadline = this.#clock.after(APPLY_DEADLINE_MS, () => {
      // A copy: giving up may take the worker out of the set.
      for (const worker of [...flight.waiting]) {
        worker.giveUp(`no answer to version ${flight.delta.version} within ${APPLY_DEADLINE_MS} ms`);
      }
      if (flight === this.#flight) this.#armDeadline(flight);
    });
  }
}

const message = ({ version, full, upserts, removes }: Delta): ToWorker => ({
  type: 'resources',
  version,
  full,
  upserts,
  removes,
});
