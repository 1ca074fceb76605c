import { Backoff } from '../../mesh/backoff.ts';
import { EXIT, type ExitCode, PosternError } from '../../mesh/errors.ts';
import type {
  FromWorker,
  SocketAddress,
  SpanData,
  ToWorker,
  WorkerConfig,
  WorkerLoad,
  WorkerQuestion,
} from '../worker/messages.ts';
import type { Clock } from './clock.ts';
import type { Log, Output } from './logging.ts';
import type { Rollout } from './rollout.ts';
import type { SeriesTable } from './series-table.ts';
import type { Svid } from './svid.ts';
import { WorkerHandle } from './worker-handle.ts';

export interface SupervisorOptions {
  /** The worker's module. */
  readonly workerUrl: URL;
  readonly workers: number;
  readonly config: Omit<WorkerConfig, 'index'>;
  readonly rollout: Rollout;
  readonly series: SeriesTable;
  readonly output: Output;
  /** Finished spans of any worker. */
  readonly onSpans: (spans: readonly SpanData[]) => void;
  readonly clock: Clock;
}

/** One place for a worker; the handle in it changes when the worker is replaced. */
interface Seat {
  readonly index: number;
  readonly backoff: Backoff;
  handle: WorkerHandle | null;
  /** Whether any worker in this seat has ever been ready: until then its end ends the sidecar. */
  proven: boolean;
  cancelTimer: () => void;
}

export interface WorkerAnswer {
  readonly worker: number;
  /** Null where it gave none in time. */
  readonly data: unknown;
}

const START_DEADLINE_MS = 20_000;
/** A worker that has lived this long is not part of a crash loop. */
const STABLE_MS = 60_000;
/** What a worker may take on top of the drain's deadline. */
const DRAIN_GRACE_MS = 2000;

/** Keeps the data-plane workers alive: starts them, tells each what is in force, buries and replaces those that end. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #log: Log;
  readonly #seats: Seat[] = [];
  readonly #started = Promise.withResolvers<void>();
  #svid: Svid | null = null;
  #logLevel: string;
  #controlPlane: readonly SocketAddress[];
  #inboundDrains = false;
  #restarts = 0;
  #allReadyOnce = false;
  /** Set once workers are to end and not to be replaced; counts those that were drained. */
  #draining: { readonly done: () => void; readonly left: Set<WorkerHandle>; forced: number } | null = null;
  #closed = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#log = options.output.logger;
    this.#logLevel = options.config.logLevel;
    this.#controlPlane = options.config.controlPlane;
  }

  /** Resolves once every worker has its listeners open. @throws PosternError where one cannot start; the caller then closes. */
  start(): Promise<void> {
    const { workers, clock } = this.#options;
    for (let index = 0; index < workers; index += 1) {
      const backoff = new Backoff({ initialMs: 100, maxMs: 10_000, random: clock.random });
      const seat: Seat = { index, backoff, handle: null, proven: false, cancelTimer: () => {} };
      this.#seats.push(seat);
      this.#fill(seat);
    }
    return this.#started.promise;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** All listeners have been opened, and at least one worker serves them now. */
  get serving(): boolean {
    return this.#allReadyOnce && this.#seats.some(({ handle }) => handle?.ready === true);
  }

  states(): readonly { readonly worker: number; readonly state: 'ready' | 'starting' | 'waiting to restart' }[] {
    return this.#seats.map(({ index, handle }) => ({
      worker: index,
      state: handle === null ? 'waiting to restart' : handle.ready ? 'ready' : 'starting',
    }));
  }

  useSvid(svid: Svid): void {
    this.#svid = svid;
    for (const handle of this.#handles()) handle.send(identityMessage(svid));
  }

  setLogLevel(level: string): void {
    this.#logLevel = level;
    for (const handle of this.#handles()) handle.send({ type: 'log-level', level });
  }

  /** The control plane's name now stands for these addresses: they are reachable whatever the registry says. */
  useControlPlane(addresses: readonly SocketAddress[]): void {
    this.#controlPlane = addresses;
    for (const handle of this.#handles()) handle.send({ type: 'control-plane', addresses });
  }

  /** Whoever comes in is asked to go elsewhere, and taken all the same; in workers that take another's place too. */
  drainInbound(): void {
    if (this.#inboundDrains) return;
    this.#inboundDrains = true;
    for (const handle of this.#handles()) handle.send({ type: 'drain-inbound' });
  }

  /** Live connections of all workers; null where one of them does not say. */
  async load(): Promise<WorkerLoad | null> {
    const answers = await this.query('load');
    const total = { inbound: 0, outbound: 0 };
    for (const { data } of answers) {
      if (data === null) return null;
      const { inbound, outbound } = data as WorkerLoad;
      total.inbound += inbound;
      total.outbound += outbound;
    }
    return total;
  }

  async query(what: WorkerQuestion): Promise<readonly WorkerAnswer[]> {
    const ready = this.#handles().filter((handle) => handle.ready);
    const answers = await Promise.allSettled(ready.map((handle) => handle.query(what)));
    return answers.map((answer, at) => ({
      worker: ready[at]?.index ?? at,
      data: answer.status === 'fulfilled' ? answer.value : null,
    }));
  }

  /** Lets connections end for up to `deadlineMs`, then closes the rest. Resolves to how many had to be closed. */
  async drain(deadlineMs: number): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const left = new Set(this.#handles().filter((handle) => handle.ready));
    this.#draining = { done: resolve, left, forced: 0 };
    for (const { cancelTimer } of this.#seats) cancelTimer();
    for (const handle of left) handle.send({ type: 'drain', deadlineMs });
    const cancel = this.#options.clock.after(deadlineMs + DRAIN_GRACE_MS, resolve);
    if (left.size > 0) await promise;
    cancel();
    return this.#draining.forced;
  }

  /** Ends all workers at once. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { cancelTimer } of this.#seats) cancelTimer();
    await Promise.all(this.#handles().map((handle) => handle.end()));
  }

  #handles(): WorkerHandle[] {
    return this.#seats.flatMap(({ handle }) => handle ?? []);
  }

  #fill(seat: Seat): void {
    const { workerUrl, config, rollout, clock } = this.#options;
    const handle = new WorkerHandle(
      workerUrl,
      { ...config, index: seat.index, logLevel: this.#logLevel, controlPlane: this.#controlPlane },
      {
        onMessage: (worker, message) => this.#receive(seat, worker, message),
        onEnd: (worker, cause, descriptors) => this.#ended(seat, worker, cause, descriptors),
      },
    );
    seat.handle = handle;
    seat.cancelTimer = clock.after(START_DEADLINE_MS, () => handle.giveUp(`not ready within ${START_DEADLINE_MS} ms`));
    if (this.#svid !== null) handle.send(identityMessage(this.#svid));
    rollout.workerStarted(handle);
    if (this.#inboundDrains) handle.send({ type: 'drain-inbound' });
  }

  #receive(seat: Seat, worker: WorkerHandle, message: FromWorker): void {
    const { output, rollout, series } = this.#options;
    switch (message.type) {
      case 'ready':
        this.#ready(seat);
        return;
      case 'applied':
        rollout.workerApplied(worker, message.version, message.rejected);
        return;
      case 'series':
        series.add(worker, message.slot, message.metric, message.labels);
        return;
      case 'series-dropped':
        series.drop(worker, message.slots);
        return;
      case 'log':
        output.logForWorker(worker.index, message.level, message.msg, message.fields);
        return;
      case 'access':
        output.writeAccessLines(message.lines);
        return;
      case 'spans':
        this.#options.onSpans(message.spans);
        return;
      case 'fatal':
        if (!seat.proven) this.#started.reject(startError(message.code, message.message));
        return;
      case 'drained':
        this.#drained(worker, message.forced);
        return;
      case 'reply':
        return;
    }
  }

  #ready(seat: Seat): void {
    seat.cancelTimer();
    seat.proven = true;
    seat.cancelTimer = this.#options.clock.after(STABLE_MS, () => seat.backoff.reset());
    this.#log.info({ worker: seat.index }, 'data-plane worker ready');
    if (this.#seats.every(({ handle }) => handle?.ready === true)) {
      this.#allReadyOnce = true;
      this.#started.resolve();
    }
  }

  #ended(seat: Seat, worker: WorkerHandle, cause: string, descriptors: number): void {
    const { rollout, series, clock } = this.#options;
    seat.cancelTimer();
    seat.handle = null;
    rollout.workerEnded(worker);
    series.retire(worker);
    this.#drained(worker, 0);
    if (this.#closed || this.#draining !== null) return;
    if (!seat.proven) {
      this.#started.reject(startError('ERR_WORKER_START', `data-plane worker ${seat.index} cannot start: ${cause}`));
      return;
    }
    this.#restarts += 1;
    const delayMs = seat.backoff.next();
    const facts = { worker: seat.index, descriptors, restartInMs: Math.round(delayMs) };
    this.#log.error(facts, `data-plane worker ended and will be replaced; its connections are closed. Cause: ${cause}`);
    seat.cancelTimer = clock.after(delayMs, () => this.#fill(seat));
  }

  #drained(worker: WorkerHandle, forced: number): void {
    const draining = this.#draining;
    if (draining === null) return;
    draining.forced += forced;
    draining.left.delete(worker);
    if (draining.left.size === 0) draining.done();
  }
}

function identityMessage({ spiffeId, chain, privateKey, notAfter }: Svid): ToWorker {
  return { type: 'identity', spiffeId, chain, privateKey, notAfter };
}

/** Of what workers report as `fatal`; anything else is the operating system's. */
const EXIT_CODES: Readonly<Record<string, ExitCode>> = {
  ERR_LISTEN: EXIT.unavailable,
  ERR_ADDRESS_IN_USE: EXIT.unavailable,
  ERR_NO_PRIVILEGE: EXIT.noPermission,
  ERR_UNSUPPORTED_PLATFORM: EXIT.unavailable,
  ERR_WORKER_START: EXIT.software,
};

const startError = (code: string, message: string): PosternError =>
  new PosternError(code, message, { exitCode: EXIT_CODES[code] ?? EXIT.osError });
