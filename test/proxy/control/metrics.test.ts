import { beforeEach, describe, expect, it } from 'vitest';
import { METRICS } from '../../../proxy/control/metric-definitions.ts';
import { Metrics } from '../../../proxy/control/metrics.ts';
import { SeriesTable } from '../../../proxy/control/series-table.ts';
import { Metrics as Scraped } from '../../support/prometheus.ts';
import { FakeClock } from './support/fake-clock.ts';
import { type RecordedLog, recordedLog } from './support/quiet-log.ts';

const source = (index: number) => ({ index, counters: new Float64Array(16) });
const OPENED = 'istio_tcp_connections_opened_total';

let clock: FakeClock;
let recorded: RecordedLog;
let series: SeriesTable;
let metrics: Metrics;

beforeEach(() => {
  clock = new FakeClock();
  recorded = recordedLog();
  series = new SeriesTable(clock, recorded.log);
  metrics = new Metrics(series, () => ({
    version: '1.2.3',
    certificateExpiresAt: Date.UTC(2026, 0, 2),
    connected: true,
    pushVersion: 'v9',
    pushAge: 1500,
    rejectedResources: 2,
    workerRestarts: 3,
    droppedLines: 4,
    exportedSpans: 5,
    droppedSpans: 6,
  }));
});

const scrape = async (): Promise<Scraped> => new Scraped(await metrics.text());

describe('series of workers', () => {
  it('are summed where workers share one', async () => {
    const [a, b] = [source(0), source(1)];
    series.add(a, 0, OPENED, { reporter: 'destination' });
    series.add(b, 5, OPENED, { reporter: 'destination' });
    a.counters[0] = 2;
    b.counters[5] = 40;
    expect((await scrape()).sum(OPENED)).toBe(42);
  });

  it('are told by the largest where a sum means nothing', async () => {
    const [a, b] = [source(0), source(1)];
    series.add(a, 0, 'postern_loop_lag_seconds_max', {});
    series.add(b, 0, 'postern_loop_lag_seconds_max', {});
    a.counters[0] = 0.25;
    b.counters[0] = 0.5;
    expect((await scrape()).sum('postern_loop_lag_seconds_max')).toBe(0.5);
  });

  it('keep what a worker that ended had counted, but not its gauges', async () => {
    const [a, b] = [source(0), source(0)];
    series.add(a, 0, OPENED, {});
    series.add(a, 1, 'postern_connections', { direction: 'inbound' });
    a.counters.set([7, 7]);
    series.retire(a);
    expect((await scrape()).sum(OPENED)).toBe(7);
    expect((await scrape()).sum('postern_connections')).toBe(0);
    series.add(b, 3, OPENED, {});
    b.counters[3] = 1;
    expect((await scrape()).sum(OPENED)).toBe(8);
  });

  it('of workers that ended are forgotten after ten minutes', async () => {
    const a = source(0);
    series.add(a, 0, OPENED, {});
    series.retire(a);
    await clock.advance(600_000);
    expect((await scrape()).matching(OPENED)).toHaveLength(1);
    await clock.advance(1);
    expect((await scrape()).matching(OPENED)).toHaveLength(0);
  });

  it('that a worker drops are forgotten, and their slots count for others', async () => {
    const a = source(0);
    series.add(a, 0, OPENED, { source_app: 'gone' });
    a.counters[0] = 9;
    await scrape();
    a.counters[0] = 0;
    series.drop(a, [0]);
    series.add(a, 0, OPENED, { source_app: 'new' });
    a.counters[0] = 1;
    const after = await scrape();
    expect(after.sum(OPENED, { source_app: 'gone' })).toBe(0);
    expect(after.sum(OPENED, { source_app: 'new' })).toBe(1);
  });

  it('that one of two workers drops do not decrease', async () => {
    const [a, b] = [source(0), source(1)];
    for (const one of [a, b]) series.add(one, 0, OPENED, {});
    a.counters[0] = 9;
    b.counters[0] = 1;
    await scrape();
    a.counters[0] = 0;
    series.drop(a, [0]);
    expect((await scrape()).sum(OPENED)).toBe(10);
  });

  it.each([
    ['an unknown metric', 'postern_made_up_total', {}],
    ['an unknown label', OPENED, { surprise: 'x' }],
  ])('with %s are left out and logged once', async (_, metric, labels) => {
    const a = source(0);
    series.add(a, 0, metric, labels);
    series.add(a, 1, metric, labels);
    expect((await scrape()).matching(metric)).toEqual([]);
    expect(recorded.lines).toHaveLength(1);
  });
});

describe('histograms of workers', () => {
  const BYTES = 'istio_request_bytes';

  it('escape the values of labels', async () => {
    const a = { index: 0, counters: new Float64Array(64) };
    series.add(a, 0, BYTES, { source_app: 'say "hi"\\\n' });
    const text = await metrics.text();
    expect(text).toContain(',source_app="say \\"hi\\"\\\\\\n",');
    expect(new Scraped(text).matching(`${BYTES}_count`)[0]?.labels.source_app).toBe('say "hi"\\\n');
  });

  it('that do not fit into the counters are left out', async () => {
    series.add(source(0), 0, BYTES, {});
    expect((await scrape()).matching(`${BYTES}_count`)).toEqual([]);
  });

  it('that one of two workers drops do not decrease', async () => {
    const [a, b] = [0, 1].map((index) => ({ index, counters: new Float64Array(64) }));
    if (a === undefined || b === undefined) throw new Error('two sources');
    for (const one of [a, b]) series.add(one, 2, BYTES, { reporter: 'source' });
    a.counters.set([4], 2);
    b.counters.set([3], 2);
    expect((await scrape()).sum(`${BYTES}_count`)).toBe(7);
    a.counters.fill(0);
    series.drop(a, [2]);
    const scraped = await scrape();
    expect(scraped.sum(`${BYTES}_count`)).toBe(7);
    expect(scraped.sum(`${BYTES}_bucket`, { le: '0.5', reporter: 'source' })).toBe(7);
  });
});

describe('/metrics', () => {
  it('gives every label of Istio, unknown where it is not known, and escapes values', async () => {
    const a = source(0);
    series.add(a, 0, OPENED, { reporter: 'source', source_app: 'say "hi"\n' });
    const [sample] = (await scrape()).matching(OPENED);
    expect(Object.keys(sample?.labels ?? {})).toHaveLength(23);
    expect(sample?.labels).toMatchObject({
      reporter: 'source',
      destination_principal: 'unknown',
      source_cluster: 'unknown',
    });
    expect(await metrics.text()).toContain('source_app="say \\"hi\\"\\n"');
  });

  it('tells what the control thread knows', async () => {
    const scraped = await scrape();
    expect(scraped.sum('postern_certificate_expiry_seconds')).toBe(Date.UTC(2026, 0, 2) / 1000);
    expect(scraped.sum('postern_control_plane_connected')).toBe(1);
    expect(scraped.sum('postern_push_version_info', { version: 'v9' })).toBe(1);
    expect(scraped.sum('postern_push_age_seconds')).toBe(1.5);
    expect(scraped.sum('postern_worker_restarts_total')).toBe(3);
    expect(scraped.sum('postern_access_log_dropped_total')).toBe(4);
    expect(scraped.sum('postern_spans_exported_total')).toBe(5);
    expect(scraped.sum('postern_spans_dropped_total')).toBe(6);
    expect(scraped.sum('postern_build_info', { version: '1.2.3' })).toBe(1);
  });

  it('has help and type for each metric, and no name twice', async () => {
    const text = await metrics.text();
    for (const { name, type, help } of METRICS)
      expect(text).toContain(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`);
    expect(new Set(METRICS.map(({ name }) => name)).size).toBe(METRICS.length);
  });
});
