import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SpanExporter } from '../../../proxy/control/tracing.ts';
import { exportRequest, rejectedSpans } from '../../../proxy/control/tracing-otlp.ts';
import type { SpanData } from '../../../proxy/worker/messages.ts';
import { eventually, within } from '../../support/eventually.ts';
import { Collector } from './support/collector.ts';
import { FakeClock } from './support/fake-clock.ts';
import { type RecordedLog, recordedLog } from './support/quiet-log.ts';

const span = (name: string, change: Partial<SpanData> = {}): SpanData => ({
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  spanId: '00f067aa0ba902b7',
  parentSpanId: null,
  name,
  kind: 'server',
  start: '1767225600000000000',
  end: '1767225600002500000',
  attributes: {},
  failed: false,
  ...change,
});

const spans = (count: number, prefix = 's'): SpanData[] =>
  Array.from({ length: count }, (_, i) => span(`${prefix}${i}`));

let collector: Collector;
let clock: FakeClock;
let recorded: RecordedLog;
let exporter: SpanExporter;

beforeEach(async () => {
  collector = new Collector();
  clock = new FakeClock();
  recorded = recordedLog();
  const resource = { 'service.name': 'orders.shop' };
  const endpoint = await collector.listen();
  exporter = new SpanExporter({ endpoint, resource, version: '1.2.3', clock, log: recorded.log });
});

afterEach(async () => {
  const closed = exporter.close();
  await clock.advance(1000);
  await closed;
  collector.close();
});

/** Time passes until that many spans were taken or dropped. */
async function accounted(exported: number, dropped: number): Promise<void> {
  const done = async (): Promise<boolean> => {
    await clock.advance(5000);
    return exporter.exported + exporter.dropped >= exported + dropped;
  };
  await eventually(done, { what: 'all spans to be accounted for', everyMs: 5 });
  expect([exporter.exported, exporter.dropped]).toEqual([exported, dropped]);
}

/** Time passes until the collector has seen that many requests; none after that. */
async function requested(count: number): Promise<void> {
  const done = async (): Promise<boolean> => {
    if (collector.names.length < count) await clock.advance(1000);
    return collector.names.length >= count;
  };
  await eventually(done, { what: `${count} requests`, everyMs: 5 });
}

describe('spans', () => {
  it('go to /v1/traces as JSON, at most 512 in a request, in order', async () => {
    exporter.add(spans(1100));
    await accounted(1100, 0);
    expect(collector.requests[0]).toMatchObject({ path: '/v1/traces', type: 'application/json' });
    expect(collector.names.map(({ length }) => length)).toEqual([512, 512, 76]);
    expect(collector.names.flat()).toEqual(spans(1100).map(({ name }) => name));
  });

  it('that come while a request is under way go with the next', async () => {
    exporter.add(spans(1, 'a'));
    await accounted(1, 0);
    exporter.add(spans(1, 'b'));
    await accounted(2, 0);
    expect(collector.names).toEqual([['a0'], ['b0']]);
  });

  it('beyond what may wait are dropped and counted, and the others go', async () => {
    exporter.add(spans(5000));
    await accounted(4096, 904);
  });

  it.each([429, 502, 503, 504, 'hang up'] as const)('are sent again after %s', async (answer) => {
    collector.answers = [answer, answer];
    exporter.add(spans(3));
    await accounted(3, 0);
    expect(collector.names).toHaveLength(3);
  });

  it('are dropped after four attempts, and the next batch is tried again', async () => {
    collector.answers = [503, 503, 503, 503];
    exporter.add(spans(2));
    await accounted(0, 2);
    exporter.add(spans(1, 'later'));
    await accounted(1, 2);
    expect(collector.names).toHaveLength(5);
  });

  it.each([400, 401, 404, 413, 500])(
    'are dropped at once after %d, which another attempt would not change',
    async (status) => {
      collector.answers = [status];
      exporter.add(spans(2));
      await accounted(0, 2);
      expect(collector.names).toHaveLength(1);
    },
  );

  it('that the collector says it rejected count as dropped', async () => {
    collector.body = '{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}';
    exporter.add(spans(5));
    await accounted(3, 2);
  });

  it('are lost without a collector, which is said once and taken back once', async () => {
    collector.answers = [404, 404];
    for (let i = 1; i <= 2; i += 1) {
      exporter.add(spans(1));
      await accounted(0, i);
    }
    exporter.add(spans(1));
    await accounted(1, 2);
    expect(recorded.lines.map((line) => (JSON.parse(line) as { level: number }).level)).toEqual([40, 30]);
  });
});

describe('a shutdown', () => {
  it('sends at once what waits for company', async () => {
    exporter.add(spans(2));
    await within(exporter.close(), 5000, 'the exporter to close without time passing');
    expect([exporter.exported, exporter.dropped]).toEqual([2, 0]);
  });

  it('makes one more attempt at once, and not all that are left', async () => {
    collector.answers = [503, 503, 503, 503];
    exporter.add(spans(2));
    await requested(1);
    await eventually(() => clock.pending > 0, { what: 'the wait for the next attempt' });
    await within(exporter.close(), 5000, 'the exporter to close without time passing');
    expect(collector.names).toHaveLength(2);
    expect([exporter.exported, exporter.dropped]).toEqual([0, 2]);
  });

  it('waits a second for a collector that does not answer', async () => {
    collector.answers = ['never'];
    exporter.add(spans(600));
    await requested(1);
    const closed = exporter.close();
    await clock.advance(1000);
    await within(closed, 5000, 'the exporter to close');
    expect([exporter.exported, exporter.dropped]).toEqual([0, 600]);
  });

  it('takes no more spans', async () => {
    await exporter.close();
    exporter.add(spans(3));
    expect(exporter.dropped).toBe(3);
  });
});

describe('a request to the collector', () => {
  it('is what OTLP asks for', () => {
    const attributes = { text: 'a', flag: true, whole: 7, part: 0.5 };
    const body = exportRequest({ 'service.name': 'orders.shop' }, { name: 'postern', version: '1' }, [
      span('GET', { attributes }),
      span('POST', { kind: 'client', parentSpanId: '1111111111111111', failed: true }),
    ]);
    const common = {
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      spanId: '00f067aa0ba902b7',
      startTimeUnixNano: '1767225600000000000',
      endTimeUnixNano: '1767225600002500000',
    };
    expect(JSON.parse(body)).toEqual({
      resourceSpans: [
        {
          resource: { attributes: [{ key: 'service.name', value: { stringValue: 'orders.shop' } }] },
          scopeSpans: [
            {
              scope: { name: 'postern', version: '1' },
              spans: [
                {
                  ...common,
                  name: 'GET',
                  kind: 2,
                  attributes: [
                    { key: 'text', value: { stringValue: 'a' } },
                    { key: 'flag', value: { boolValue: true } },
                    { key: 'whole', value: { intValue: '7' } },
                    { key: 'part', value: { doubleValue: 0.5 } },
                  ],
                  status: {},
                },
                {
                  ...common,
                  name: 'POST',
                  kind: 3,
                  parentSpanId: '1111111111111111',
                  attributes: [],
                  status: { code: 2 },
                },
              ],
            },
          ],
        },
      ],
    });
  });
});

it.each([
  ['{}', 0],
  ['', 0],
  ['null', 0],
  ['{"partialSuccess":{}}', 0],
  ['{"partialSuccess":{"rejectedSpans":3}}', 3],
  ['{"partialSuccess":{"rejectedSpans":"3"}}', 3],
  ['{"partialSuccess":{"rejectedSpans":-3}}', 0],
  ['{"partialSuccess":{"rejectedSpans":"x"}}', 0],
])('the answer %s means that %d spans were rejected', (answer, count) => {
  expect(rejectedSpans(answer)).toBe(count);
});
