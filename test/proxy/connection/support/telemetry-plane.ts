import { AccessLog } from '../../../../proxy/connection/access-log.ts';
import type { DataPlane } from '../../../../proxy/connection/data-plane.ts';
import { RequestSeries } from '../../../../proxy/connection/request-series.ts';
import { SeriesBank } from '../../../../proxy/connection/series.ts';
import { SpanLog } from '../../../../proxy/connection/span-log.ts';
import { TraceSource } from '../../../../proxy/connection/trace-context.ts';
import { WorkerMetrics } from '../../../../proxy/connection/worker-metrics.ts';
import { Metrics } from '../../../../proxy/control/metrics.ts';
import { SeriesTable } from '../../../../proxy/control/series-table.ts';
import type { Loop } from '../../../../proxy/reactor/loop.ts';
import type { Timer } from '../../../../proxy/reactor/timers.ts';
import { COUNTER_SLOTS, type FromWorker, type SpanData, type WorkerConfig } from '../../../../proxy/worker/messages.ts';
import { Metrics as Scraped } from '../../../support/prometheus.ts';
import { FakeClock } from '../../control/support/fake-clock.ts';
import { recordedLog } from '../../control/support/quiet-log.ts';

export const UNIX_NOW = Date.UTC(2026, 0, 1);

/** Bytes 0, 1, 2 … over and over. */
export class CountingBytes {
  readonly bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  #at = 0;

  take(length: number): number {
    if (this.#at + length > this.bytes.length) this.#at = 0;
    const at = this.#at;
    this.#at += length;
    return at;
  }
}

/** Time and timers of a worker, by hand. */
export class FakeLoop {
  now = 1000;
  readonly #armed = new Set<Timer>();

  arm(timer: Timer): void {
    this.#armed.add(timer);
  }

  cancel(timer: Timer): void {
    this.#armed.delete(timer);
  }

  /** Whatever is armed falls due. */
  fire(): void {
    for (const timer of [...this.#armed]) {
      this.#armed.delete(timer);
      timer.fire();
    }
  }
}

/** The worker's end of telemetry, without connections. */
export class WorkerTelemetry {
  readonly loop = new FakeLoop();
  readonly counters = new SharedArrayBuffer(COUNTER_SLOTS * Float64Array.BYTES_PER_ELEMENT);
  readonly posted: FromWorker[] = [];
  readonly bank = new SeriesBank(this.counters, (message) => this.#post(message));
  readonly plane: DataPlane;
  readonly #source: { readonly index: number; readonly counters: Float64Array };
  readonly #table: SeriesTable;

  constructor(
    scrape: Scrape,
    { accessLog = 'on', sampling = null }: { accessLog?: WorkerConfig['accessLog']; sampling?: number | null } = {},
  ) {
    this.#table = scrape.table;
    this.#source = { index: 0, counters: new Float64Array(this.counters) };
    const loop = this.loop as unknown as Loop;
    const post = (message: FromWorker): void => this.#post(message);
    const metrics = new WorkerMetrics(this.bank, () => this.loop.now);
    this.plane = {
      loop,
      config: { accessLog },
      metrics,
      accessLog: new AccessLog(loop, post, () => metrics.accessLogDropped()),
      requestSeries: new RequestSeries(this.bank),
      traces: new TraceSource(sampling, new CountingBytes()),
      spans: new SpanLog(
        loop,
        () => UNIX_NOW,
        post,
        () => metrics.spanDropped(),
      ),
      unixNow: () => UNIX_NOW,
    } as unknown as DataPlane;
  }

  #post(message: FromWorker): void {
    this.posted.push(message);
    if (message.type === 'series') this.#table.add(this.#source, message.slot, message.metric, message.labels);
    if (message.type === 'series-dropped') this.#table.drop(this.#source, message.slots);
  }

  /** The worker has ended. */
  retire(): void {
    this.#table.retire(this.#source);
  }

  /** How many series were ever announced of a metric. */
  announced(metric: string): number {
    return this.posted.filter((message) => message.type === 'series' && message.metric === metric).length;
  }

  lines(): string[] {
    this.loop.fire();
    const lines = this.posted.flatMap((message) => (message.type === 'access' ? message.lines.split('\n') : []));
    return lines.filter((line) => line !== '');
  }

  spans(): SpanData[] {
    this.loop.fire();
    return this.posted.flatMap((message) => (message.type === 'spans' ? message.spans : []));
  }
}

/** The control thread's end: what Prometheus would see. */
export class Scrape {
  readonly clock = new FakeClock();
  readonly table = new SeriesTable(this.clock, recordedLog().log);
  readonly #metrics = new Metrics(this.table, () => ({
    version: '1',
    certificateExpiresAt: null,
    connected: false,
    pushVersion: null,
    pushAge: null,
    rejectedResources: 0,
    workerRestarts: 0,
    droppedLines: 0,
    exportedSpans: 0,
    droppedSpans: 0,
  }));

  async text(): Promise<string> {
    return await this.#metrics.text();
  }

  async now(): Promise<Scraped> {
    return new Scraped(await this.text());
  }
}
