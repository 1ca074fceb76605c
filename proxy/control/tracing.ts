import { Backoff } from '../../mesh/backoff.ts';
import type { SpanData } from '../worker/messages.ts';
import { type Clock, pause } from './clock.ts';
import type { Log } from './logging.ts';
import { type AttributeValues, exportRequest, rejectedSpans } from './tracing-otlp.ts';
import { CollectorClient, type Posted } from './tracing-post.ts';

export interface SpanExporterOptions {
  /** Base URL of the collector, http or https. */
  readonly endpoint: string;
  /** Whose spans they are: OpenTelemetry's resource attributes. */
  readonly resource: AttributeValues;
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Spans of one request to the collector. */
const BATCH = 512;
/** Spans that wait; what comes on top is dropped. */
const MAX_WAITING = 4096;
/** How long the first span of a batch waits for others. */
const GATHER_MS = 1000;
const ATTEMPTS = 4;
/** What a shutdown waits for the last spans. */
const CLOSE_MS = 1000;

/**
 * Hands finished spans to an OTLP collector, in batches, one request at a time. Nothing waits for it: what the collector does not take in a few
 * attempts, or what does not fit into the queue, is dropped and counted.
 */
export class SpanExporter {
  readonly #options: SpanExporterOptions;
  readonly #client: CollectorClient;
  /** Aborted where nothing more may be waited for. */
  readonly #over = new AbortController();
  /** Aborted at the beginning of the end: what is waiting for company or for another attempt goes now. */
  readonly #closing = new AbortController();
  #waiting: SpanData[] = [];
  #running: Promise<void> | null = null;
  #failing = false;
  #exported = 0;
  #dropped = 0;

  constructor(options: SpanExporterOptions) {
    this.#options = options;
    this.#client = new CollectorClient(new URL(`${options.endpoint}/v1/traces`));
  }

  get exported(): number {
    return this.#exported;
  }

  get dropped(): number {
    return this.#dropped;
  }

  add(spans: readonly SpanData[]): void {
    const room = this.#closing.signal.aborted ? 0 : MAX_WAITING - this.#waiting.length;
    const taken = spans.slice(0, room);
    this.#waiting.push(...taken);
    this.#dropped += spans.length - taken.length;
    if (this.#running !== null || this.#waiting.length === 0) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
    });
  }

  /** Sends what waits, within a second; what has not been taken by then is dropped. */
  async close(): Promise<void> {
    this.#closing.abort();
    const cancel = this.#options.clock.after(CLOSE_MS, () => this.#over.abort());
    await this.#running;
    cancel();
    this.#client.close();
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    while (this.#waiting.length > 0) {
      if (this.#waiting.length < BATCH) await pause(clock, GATHER_MS, this.#closing.signal);
      const batch = this.#waiting.slice(0, BATCH);
      this.#waiting = this.#waiting.slice(BATCH);
      await this.#export(batch);
    }
  }

  async #export(batch: readonly SpanData[]): Promise<void> {
    const { resource, version, clock } = this.#options;
    const body = exportRequest(resource, { name: 'postern', version }, batch);
    const backoff = new Backoff({ initialMs: 500, maxMs: 5000, random: clock.random });
    let posted: Posted = { ok: false, again: true, reason: 'closed' };
    for (let attempt = 1; attempt <= ATTEMPTS && !this.#over.signal.aborted; attempt += 1) {
      posted = await this.#client.post(body, this.#over.signal);
      const last = posted.ok || !posted.again || attempt === ATTEMPTS || this.#closing.signal.aborted;
      if (last) break;
      await pause(clock, backoff.next(), this.#closing.signal);
    }
    this.#account(batch.length, posted);
  }

  #account(spans: number, posted: Posted): void {
    const { log, endpoint } = this.#options;
    const rejected = posted.ok ? Math.min(rejectedSpans(posted.body), spans) : spans;
    this.#exported += spans - rejected;
    this.#dropped += rejected;
    // Said once when it begins and once when it is over: a collector may be away for days.
    if (!posted.ok && !this.#failing) {
      log.warn(
        { endpoint, reason: posted.reason },
        'the collector does not take spans: they are dropped until it does',
      );
    }
    if (posted.ok && this.#failing) log.info({ endpoint }, 'the collector takes spans again');
    this.#failing = !posted.ok;
  }
}
