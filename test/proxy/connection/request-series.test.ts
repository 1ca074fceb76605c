import { beforeEach, describe, expect, test } from 'vitest';
import { partyOf } from '../../../proxy/connection/party.ts';
import type { LaneFacts, RequestOutcome } from '../../../proxy/connection/request-series.ts';
import { grpcStatusLabel, statusLabel } from '../../../proxy/connection/request-series-labels.ts';
import { ISTIO_HTTP_LABELS } from '../../../proxy/control/metric-definitions.ts';
import { FRONTEND, ORDERS, party, SERVICE } from './support/requests.ts';
import { Scrape, WorkerTelemetry } from './support/telemetry-plane.ts';

const REQUESTS = 'istio_requests_total';

let scrape: Scrape;
let worker: WorkerTelemetry;

beforeEach(() => {
  scrape = new Scrape();
  worker = new WorkerTelemetry(scrape);
});

const LANE: LaneFacts = {
  direction: 'inbound',
  source: FRONTEND,
  destination: ORDERS,
  service: SERVICE,
  mutualTls: true,
  grpc: false,
};

const OUTCOME: RequestOutcome = {
  status: 200,
  flags: '-',
  grpcStatus: null,
  durationMs: 12.5,
  requestBytes: 300,
  responseBytes: 4_000,
  requestMessages: 0,
  responseMessages: 0,
};

function count(lane: Partial<LaneFacts> = {}, outcome: Partial<RequestOutcome> = {}): void {
  worker.plane.requestSeries.count({ ...LANE, ...lane }, { ...OUTCOME, ...outcome }, worker.loop.now);
}

test('a request counts in Istio’s metrics with Istio’s labels, at the destination', async () => {
  count();
  const scraped = await scrape.now();
  const [sample] = scraped.matching(REQUESTS);
  expect(sample?.value).toBe(1);
  expect(sample?.labels).toEqual({
    reporter: 'destination',
    source_workload: 'frontend',
    source_workload_namespace: 'shop',
    source_principal: 'spiffe://cluster.local/ns/shop/sa/frontend',
    source_app: 'frontend',
    source_version: 'v1',
    source_canonical_service: 'frontend',
    source_canonical_revision: 'v1',
    source_cluster: 'Kubernetes',
    destination_workload: 'orders',
    destination_workload_namespace: 'shop',
    destination_principal: 'spiffe://cluster.local/ns/shop/sa/orders',
    destination_app: 'orders',
    destination_version: 'v1',
    destination_service: 'orders.shop.svc.cluster.local',
    destination_service_name: 'orders',
    destination_service_namespace: 'shop',
    destination_canonical_service: 'orders',
    destination_canonical_revision: 'v1',
    destination_cluster: 'Kubernetes',
    request_protocol: 'http',
    response_code: '200',
    grpc_response_status: '',
    response_flags: '-',
    connection_security_policy: 'mutual_tls',
  });
  expect(Object.keys(sample?.labels ?? {})).toEqual(
    [...ISTIO_HTTP_LABELS].filter((label) => label in (sample?.labels ?? {})),
  );
  expect(scraped.sum('istio_request_duration_milliseconds_sum')).toBe(12.5);
  expect(scraped.sum('istio_request_bytes_sum')).toBe(300);
  expect(scraped.sum('istio_response_bytes_sum')).toBe(4_000);
});

test.each([
  [{ direction: 'outbound' }, { reporter: 'source', connection_security_policy: 'unknown' }],
  [{ mutualTls: false }, { reporter: 'destination', connection_security_policy: 'none' }],
  [{ service: null }, { destination_service: 'unknown', destination_service_name: 'unknown' }],
  [{ source: partyOf(null, null) }, { source_workload: 'unknown', source_principal: 'unknown' }],
] as const)('a request with %j is labelled %j', async (lane, labels) => {
  count(lane);
  expect((await scrape.now()).sum(REQUESTS, labels)).toBe(1);
});

test('gRPC has its own protocol, status and message counts', async () => {
  count({ grpc: true }, { grpcStatus: 14, requestMessages: 2, responseMessages: 5 });
  const scraped = await scrape.now();
  const labels = { request_protocol: 'grpc', grpc_response_status: '14', response_code: '200' };
  expect(scraped.sum(REQUESTS, labels)).toBe(1);
  expect(scraped.sum('istio_request_messages_total', labels)).toBe(2);
  expect(scraped.sum('istio_response_messages_total', labels)).toBe(5);
  expect(scraped.sum('istio_request_bytes_count', labels)).toBe(1);
});

test('HTTP that is not gRPC has no message counts', async () => {
  count();
  expect((await scrape.now()).matching('istio_request_messages_total')).toEqual([]);
});

describe('requests that differ', () => {
  const lanes: readonly Partial<LaneFacts>[] = [
    {},
    { direction: 'outbound' },
    { source: party('other') },
    { destination: party('payments') },
    { service: null },
    { mutualTls: false },
    { grpc: true },
  ];
  const outcomes: readonly Partial<RequestOutcome>[] = [
    {},
    { status: 404 },
    { flags: 'UC' },
    { status: 503, flags: 'UF' },
  ];

  test('count by themselves, in whatever order they come', async () => {
    for (let round = 1; round <= 3; round++) {
      for (const lane of lanes) for (const outcome of outcomes) count(lane, outcome);
      for (const lane of [...lanes].reverse()) for (const outcome of [...outcomes].reverse()) count(lane, outcome);
    }
    const samples = (await scrape.now()).matching(REQUESTS);
    expect(samples.map(({ value }) => value)).toEqual(Array.from({ length: lanes.length * outcomes.length }, () => 6));
  });

  test('by more outcomes than are remembered count all the same', async () => {
    const codes = [200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 409, 410, 412, 500, 502, 503, 504];
    for (let round = 0; round < 2; round++) for (const status of codes) count({}, { status });
    const samples = (await scrape.now()).matching(REQUESTS);
    expect(samples.map(({ value }) => value)).toEqual(codes.map(() => 2));
  });
});

test('a workload that calls itself counts as source and as destination', async () => {
  const lane = { source: ORDERS, destination: ORDERS, mutualTls: false };
  count({ ...lane, direction: 'inbound' });
  count({ ...lane, direction: 'outbound' });
  const scraped = await scrape.now();
  expect(scraped.sum(REQUESTS, { reporter: 'destination' })).toBe(1);
  expect(scraped.sum(REQUESTS, { reporter: 'source' })).toBe(1);
});

test('requests that are alike ask the bank for their series once', () => {
  let asked = 0;
  const { family } = worker.bank;
  worker.bank.family = (...args) => {
    asked++;
    return family.apply(worker.bank, args);
  };
  for (let i = 0; i < 5; i++) {
    count();
    count({}, { status: 404 });
    count({ direction: 'outbound' });
  }
  expect(asked).toBe(3);
});

test('a series that was forgotten is opened anew by the next request', async () => {
  count();
  worker.loop.now += 600_000;
  worker.bank.sweep(worker.loop.now);
  expect((await scrape.now()).sum(REQUESTS)).toBe(0);
  count({ source: party('other') });
  count();
  expect((await scrape.now()).sum(REQUESTS, { source_app: 'frontend' })).toBe(1);
});

test('a series in use is not forgotten, though it is found without its key', () => {
  for (let i = 0; i < 3; i++) {
    count();
    worker.loop.now += 599_999;
    worker.bank.sweep(worker.loop.now);
  }
  expect(worker.announced(REQUESTS)).toBe(1);
});

describe('what others may choose does not make series', () => {
  test('of status codes there is none but the registered ones, whatever an application answers', async () => {
    for (let status = 0; status < 1_000; status++) count({}, { status });
    const scraped = await scrape.now();
    expect(scraped.matching(REQUESTS).length).toBeLessThan(70);
    expect(scraped.sum(REQUESTS)).toBe(1_000);
  });

  test.each([
    [200, 200],
    [451, 451],
    [299, 200],
    [499, 400],
    [520, 500],
    [599, 500],
    [0, 0],
    [600, 0],
    [99, 0],
  ])('status %d is labelled %d', (status, label) => {
    expect(statusLabel(status)).toBe(label);
  });

  test.each([
    [null, null],
    [0, 0],
    [16, 16],
    [17, 2],
    [-1, 2],
    [1.5, 2],
    [Number.NaN, 2],
  ])('gRPC status %s is labelled %s', (status, label) => {
    expect(grpcStatusLabel(status)).toBe(label);
  });

  test('more callers than there is room for count as unknown ones, by direction and protocol', async () => {
    for (let i = 0; i < 600; i++) {
      count({ source: party(`client-${i}`) });
      count({ source: party(`client-${i}`), grpc: true });
    }
    const scraped = await scrape.now();
    expect(scraped.sum(REQUESTS)).toBe(1_200);
    const lost = (request_protocol: string): number =>
      scraped.sum(REQUESTS, { source_app: 'unknown', request_protocol });
    expect([lost('http'), lost('grpc')]).toEqual([350, 350]);
    expect(scraped.sum('istio_requests_total', { source_app: 'unknown' })).toBe(700);
  });

  test('a caller that found no room gets series of its own once there is some', async () => {
    for (let i = 0; i < 500; i++) count({ source: party(`client-${i}`) });
    worker.loop.now += 300_000;
    count();
    worker.loop.now += 300_000;
    worker.bank.sweep(worker.loop.now);
    count();
    expect((await scrape.now()).sum(REQUESTS, { source_app: 'frontend' })).toBe(1);
  });

  test('all label sets that there may be fit into the counters', () => {
    for (let i = 0; i < 3_000; i++) {
      count({ source: party(`client-${i}`), grpc: true });
      const four = Array.from({ length: 4 }, (_, at) => `tcp_${at}`);
      worker.bank.family(`connection-${i}`, four, () => ({ reporter: `${i}` }), worker.loop.now);
    }
    count();
    expect(worker.announced('tcp_0')).toBeGreaterThan(2_400);
  });
});
