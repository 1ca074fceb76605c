import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { bucketOf, type SeriesSet } from '../../../proxy/connection/series.ts';
import { HISTOGRAM_BOUNDS } from '../../../proxy/worker/messages.ts';
import { Scrape, WorkerTelemetry } from './support/telemetry-plane.ts';

const COUNTERS = ['istio_requests_total'];
const HISTOGRAMS = ['istio_request_bytes'];
const BYTES = 'istio_request_bytes';
const TEN_MINUTES = 600_000;

let scrape: Scrape;
let worker: WorkerTelemetry;

beforeEach(() => {
  scrape = new Scrape();
  worker = new WorkerTelemetry(scrape);
});

const open = (name: string, of = worker): SeriesSet =>
  of.bank.family(
    name,
    COUNTERS,
    () => ({ reporter: 'source', source_app: name, request_protocol: 'http' }),
    of.loop.now,
    HISTOGRAMS,
  );

function observe(set: SeriesSet, value: number, of = worker): void {
  of.bank.observe(set.slots[1] ?? -1, value);
}

describe('the bucket of a value', () => {
  test('is the first whose upper bound is not below it', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e7, noNaN: true }), (value) => {
        const wanted = HISTOGRAM_BOUNDS.findIndex((bound) => value <= bound);
        expect(bucketOf(value)).toBe(wanted === -1 ? HISTOGRAM_BOUNDS.length : wanted);
      }),
    );
  });

  test.each(HISTOGRAM_BOUNDS.map((bound, at) => [bound, at]))('of the bound %d is the bound’s own', (bound, at) => {
    expect(bucketOf(bound)).toBe(at);
    expect(bucketOf(bound + 1e-6)).toBe(at + 1);
  });
});

describe('a histogram', () => {
  test('is told as Prometheus wants it: cumulative buckets, sum and count', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 5_000_000 }), { minLength: 1 }), async (values) => {
        const fresh = new Scrape();
        const one = new WorkerTelemetry(fresh);
        const set = open('a', one);
        for (const value of values) observe(set, value, one);
        const scraped = await fresh.now();
        for (const le of HISTOGRAM_BOUNDS) {
          const below = values.filter((value) => value <= le).length;
          expect(scraped.sum(`${BYTES}_bucket`, { le: String(le) })).toBe(below);
        }
        expect(scraped.sum(`${BYTES}_bucket`, { le: '+Inf' })).toBe(values.length);
        expect(scraped.sum(`${BYTES}_count`)).toBe(values.length);
        expect(scraped.sum(`${BYTES}_sum`)).toBe(values.reduce((sum, value) => sum + value, 0));
      }),
      { numRuns: 25 },
    );
  });

  test('has Envoy’s buckets, ascending, and is declared as a histogram', async () => {
    observe(open('a'), 1);
    const text = await scrape.text();
    expect(text).toContain(`# TYPE ${BYTES} histogram\n`);
    const bounds = [...text.matchAll(/^istio_request_bytes_bucket\{.*,le="([^"]+)"\} /gm)].map(([, bound]) => bound);
    expect(bounds.join(' ')).toBe(
      '0.5 1 5 10 25 50 100 250 500 1000 2500 5000 10000 30000 60000 300000 600000 1800000 3600000 +Inf',
    );
  });

  test('is summed over workers, living and gone', async () => {
    const [gone, other] = [new WorkerTelemetry(scrape), new WorkerTelemetry(scrape)];
    for (const [of, value] of [
      [worker, 3],
      [gone, 30],
      [other, 300],
    ] as const) {
      observe(open('a', of), value, of);
    }
    gone.retire();
    const scraped = await scrape.now();
    expect(scraped.sum(`${BYTES}_count`)).toBe(3);
    expect(scraped.sum(`${BYTES}_sum`)).toBe(333);
    expect(scraped.sum(`${BYTES}_bucket`, { le: '50' })).toBe(2);
  });

  test('that a worker forgets leaves its slots clean for the next one', async () => {
    observe(open('old'), 7);
    worker.loop.now += TEN_MINUTES;
    worker.bank.sweep(worker.loop.now);
    observe(open('new'), 70);
    const scraped = await scrape.now();
    expect(scraped.matching(`${BYTES}_sum`).map(({ labels, value }) => [labels.source_app, value])).toEqual([
      ['new', 70],
    ]);
  });

  test('does not touch its neighbours', async () => {
    const [a, b] = [open('a'), open('b')];
    observe(a, 1e9);
    observe(b, 0);
    worker.bank.add(b.slots[0] ?? -1, 1);
    const scraped = await scrape.now();
    expect(scraped.sum('istio_requests_total')).toBe(1);
    expect(scraped.sum(`${BYTES}_sum`, { source_app: 'b' })).toBe(0);
  });
});

describe('label sets', () => {
  test('beyond the bound count into one series whose labels are unknown but for reporter and protocol', async () => {
    for (let i = 0; i < 1_000; i++) worker.bank.add(open(`client-${i}`).slots[0] ?? -1, 1);
    expect(worker.announced('istio_requests_total')).toBe(501);
    const [overflow, ...others] = (await scrape.now()).matching('istio_requests_total', { source_app: 'unknown' });
    expect(others).toEqual([]);
    expect(overflow?.value).toBe(500);
    expect(overflow?.labels).toMatchObject({
      reporter: 'source',
      request_protocol: 'http',
      source_workload: 'unknown',
    });
  });

  test('that were forgotten make room', () => {
    for (let i = 0; i < 500; i++) open(`client-${i}`);
    worker.loop.now += TEN_MINUTES;
    worker.bank.sweep(worker.loop.now);
    expect(open('late').overflow).toBe(false);
  });

  test('are marked when they are forgotten, so that nobody counts into slots of others', () => {
    const set = open('a');
    worker.loop.now += TEN_MINUTES;
    worker.bank.sweep(worker.loop.now);
    expect(set.dropped).toBe(true);
  });

  test('in use are kept', () => {
    const set = open('a');
    worker.loop.now += TEN_MINUTES - 1;
    worker.bank.sweep(worker.loop.now);
    expect(set.dropped).toBe(false);
  });
});
