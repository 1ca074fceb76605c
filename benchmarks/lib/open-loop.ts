import { PosternError } from '../../mesh/errors.ts';
import type { Endpoint } from './contender.ts';
import { HttpConnection } from './http-connection.ts';
import { quantileOfSorted } from './statistics.ts';

export interface OpenLoopPlan {
  readonly connections: number;
  readonly perSecond: number;
  /** Milliseconds before counting begins. */
  readonly settleMs: number;
  readonly windowMs: number;
}

/** Microseconds from the moment a request was due to its last byte. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly count: number;
}

/** A tick of the generator; the finest that Node's timers keep. Requests come due in small bursts of `perSecond / 1000`. */
const TICK_MS = 1;
/** Answers still missing this long after the last request count as failure. */
const TAIL_MS = 5_000;

/**
 * Requests at a fixed rate, whatever the answers do. A request's clock starts when the schedule wants it out, also when every connection is still busy:
 * a stalled proxy delays no request's clock, so its stall shows in every request that it held up (no coordinated omission).
 * What the generator itself is late by (its timer, the machine) is not charged: it is the same without a proxy.
 */
export async function measureLatency(target: Endpoint, plan: OpenLoopPlan, signal: AbortSignal): Promise<Latency> {
  const loop = new OpenLoop(plan);
  try {
    await loop.connect(target);
    return summarize(await loop.run(signal));
  } finally {
    loop.close();
  }
}

/** The figures of latencies in microseconds; sorts in place. */
export function summarize(latencies: Float64Array): Latency {
  latencies.sort();
  return {
    p50: quantileOfSorted(latencies, 0.5),
    p99: quantileOfSorted(latencies, 0.99),
    max: quantileOfSorted(latencies, 1),
    count: latencies.length,
  };
}

class OpenLoop {
  readonly #plan: OpenLoopPlan;
  readonly #total: number;
  /** The first requests, which are sent but not counted. */
  readonly #uncounted: number;
  readonly #latencies: Float64Array;
  /** By request: when it came due, milliseconds of `performance.now()`. */
  readonly #due: Float64Array;
  readonly #connections: HttpConnection[] = [];
  readonly #idle: HttpConnection[] = [];
  readonly #carrying = new Map<HttpConnection, number>();
  readonly #finished = Promise.withResolvers<void>();
  #timer: NodeJS.Timeout | undefined;
  #scheduled = 0;
  #sent = 0;
  #answered = 0;

  constructor(plan: OpenLoopPlan) {
    this.#plan = plan;
    this.#total = Math.round(((plan.settleMs + plan.windowMs) * plan.perSecond) / 1000);
    this.#uncounted = Math.round((plan.settleMs * plan.perSecond) / 1000);
    this.#latencies = new Float64Array(this.#total - this.#uncounted);
    this.#due = new Float64Array(this.#total);
    this.#finished.promise.catch(() => undefined); // also awaited in `run`; a failure while connecting is reported there or by `connect`
  }

  async connect(target: Endpoint): Promise<void> {
    const fail = (cause: Error): void => this.#finished.reject(cause);
    const answer = (connection: HttpConnection): void => this.#onAnswer(connection);
    for (let index = 0; index < this.#plan.connections; index++) {
      const connection = await HttpConnection.open(target, answer, fail);
      this.#connections.push(connection);
      this.#idle.push(connection);
    }
  }

  /** @throws PosternError ERR_BENCH_LOAD where an answer is missing or a connection fails; AbortError where interrupted. */
  async run(signal: AbortSignal): Promise<Float64Array> {
    const { settleMs, windowMs } = this.#plan;
    const abort = (): void => this.#finished.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    const deadline = setTimeout(() => this.#finished.reject(this.#missing()), settleMs + windowMs + TAIL_MS);
    const started = performance.now();
    this.#timer = setInterval(() => this.#tick(started), TICK_MS);
    try {
      await this.#finished.promise;
    } finally {
      clearTimeout(deadline);
      signal.removeEventListener('abort', abort);
    }
    return this.#latencies;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const connection of this.#connections) connection.close();
  }

  #tick(started: number): void {
    const now = performance.now();
    const wanted = Math.min(this.#total, Math.floor(((now - started) * this.#plan.perSecond) / 1000));
    while (this.#scheduled < wanted) this.#due[this.#scheduled++] = now;
    if (this.#scheduled === this.#total) clearInterval(this.#timer);
    for (let connection = this.#next(); connection !== undefined; connection = this.#next()) this.#send(connection);
  }

  /** An idle connection, where a request is due; first in, first out, so that all connections take part. */
  #next(): HttpConnection | undefined {
    return this.#sent < this.#scheduled ? this.#idle.shift() : undefined;
  }

  #send(connection: HttpConnection): void {
    this.#carrying.set(connection, this.#sent++);
    connection.send();
  }

  #onAnswer(connection: HttpConnection): void {
    const request = this.#carrying.get(connection);
    if (request === undefined) {
      this.#finished.reject(new PosternError('ERR_BENCH_LOAD', 'an answer came that nobody had asked for'));
      return;
    }
    this.#carrying.delete(connection);
    if (request >= this.#uncounted) {
      this.#latencies[request - this.#uncounted] = (performance.now() - (this.#due[request] ?? Number.NaN)) * 1000;
    }
    this.#answered++;
    if (this.#sent < this.#scheduled) this.#send(connection);
    else this.#idle.push(connection);
    if (this.#answered === this.#total) this.#finished.resolve();
  }

  #missing(): PosternError {
    const counts = `${this.#answered} of ${this.#total} requests were answered (${this.#sent} sent)`;
    return new PosternError('ERR_BENCH_LOAD', `${counts}: the rate is more than this path carries`);
  }
}
