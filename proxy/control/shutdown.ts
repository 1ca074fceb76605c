import { EXIT } from '../../mesh/errors.ts';
import type { Clock } from './clock.ts';
import type { Log } from './logging.ts';
import type { StopSignals } from './stop-signals.ts';
import type { Supervisor } from './supervisor.ts';
import { untilQuiet } from './wind-down.ts';

export interface ShutdownOptions {
  readonly drainTimeoutMs: number;
  /** The application may outlive the request to stop, and still needs its own connections. */
  readonly keepOutbound: boolean;
  readonly signals: StopSignals;
  readonly supervisor: Pick<Supervisor, 'drain' | 'drainInbound' | 'load'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Where nobody is left who could miss a connection. */
const SHORT_DRAIN_MS = 2_000;

/**
 * How a sidecar stops, and what drains before. NEVER is a step taken back: nothing drains, then inbound, then everything.
 */
export class Shutdown {
  readonly #options: ShutdownOptions;
  readonly #ended = Promise.withResolvers<void>();
  readonly #wanted: Promise<void>;
  #applicationEnded = false;
  #draining: 'nothing' | 'inbound' | 'all' = 'nothing';

  constructor(options: ShutdownOptions) {
    this.#options = options;
    this.#wanted = Promise.race([options.signals.drainRequested, this.#ended.promise]);
  }

  get draining(): 'nothing' | 'inbound' | 'all' {
    return this.#draining;
  }

  /** Resolves once the sidecar is to stop. */
  get wanted(): Promise<void> {
    return this.#wanted;
  }

  /** Lame duck: not ready, and whoever comes in is asked to go elsewhere. */
  drainInbound(): void {
    if (this.#draining !== 'nothing') return;
    this.#draining = 'inbound';
    this.#options.log.info('draining what comes in; the connections of the application itself go on');
    this.#options.supervisor.drainInbound();
  }

  /** The application has ended for good: there is nothing to stand beside. May be called again. */
  applicationEnded(): void {
    if (this.#applicationEnded) return;
    this.#applicationEnded = true;
    this.#options.log.info('the application has ended, and the sidecar ends with it');
    this.#ended.resolve();
  }

  /** Once `wanted`: drains, and resolves to the exit code. @param withdraw takes back the workload's registration; resolves once that is done */
  async run(withdraw: () => Promise<void>): Promise<number> {
    const { drainTimeoutMs, keepOutbound, signals, supervisor, log } = this.#options;
    let deadlineMs = drainTimeoutMs;
    if (keepOutbound && !this.#applicationEnded) deadlineMs = (await this.#untilUnused()) ? SHORT_DRAIN_MS : 0;
    if (this.#applicationEnded) deadlineMs = SHORT_DRAIN_MS;
    this.#draining = 'all';
    await Promise.race([withdraw(), signals.endRequested]);
    deadlineMs = Math.min(deadlineMs, drainTimeoutMs);
    log.info({ deadlineMs }, 'draining: no new connections; a second signal ends at once');
    const forced = await Promise.race([supervisor.drain(deadlineMs), signals.endRequested]);
    if (typeof forced === 'number') log.info({ forced }, 'drained');
    return signals.exitCode ?? EXIT.ok;
  }

  /** Whether nobody is left who uses the sidecar; false: the time is over. */
  async #untilUnused(): Promise<boolean> {
    const { drainTimeoutMs, signals, supervisor, clock, log } = this.#options;
    this.drainInbound();
    const enough = new AbortController();
    const end = (): void => enough.abort();
    void Promise.race([this.#ended.promise, signals.endRequested]).then(end);
    const load = (): ReturnType<Supervisor['load']> => supervisor.load();
    const why = await untilQuiet({ clock, load, deadlineMs: drainTimeoutMs, signal: enough.signal });
    if (why === 'quiet') log.info('nothing uses the sidecar any more');
    return why !== 'deadline';
  }
}
