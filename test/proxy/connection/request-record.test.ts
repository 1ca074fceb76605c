import { beforeEach, describe, expect, test } from 'vitest';
import type { RequestRecord, ResponseFlag } from '../../../proxy/connection/request-record.ts';
import { decision, ORDERS, request } from './support/requests.ts';
import { Scrape, WorkerTelemetry } from './support/telemetry-plane.ts';

let scrape: Scrape;
let worker: WorkerTelemetry;

beforeEach(() => {
  scrape = new Scrape();
  worker = new WorkerTelemetry(scrape);
});

const line = (): Record<string, unknown> => JSON.parse(worker.lines().at(-1) ?? 'null') as Record<string, unknown>;

/** A whole gRPC message of that many bytes. */
function grpcMessage(length: number): Buffer {
  const bytes = Buffer.alloc(5 + length);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

describe('a request', () => {
  test('is told of once, however often it ends', async () => {
    const record = request(worker.plane);
    record.end('-', '');
    record.end('UC', 'again');
    expect((await scrape.now()).sum('istio_requests_total')).toBe(1);
    expect(worker.lines()).toHaveLength(1);
  });

  test('is in flight from its making to its end', async () => {
    const inFlight = async (): Promise<number> =>
      (await scrape.now()).sum('postern_http_requests_in_flight', { direction: 'outbound' });
    const record = request(worker.plane, 'outbound');
    expect(await inFlight()).toBe(1);
    record.end('-', '');
    expect(await inFlight()).toBe(0);
  });

  test('is timed from its making, and its endpoint from when it was last sent', () => {
    const record = request(worker.plane);
    worker.loop.now += 10;
    record.sent();
    worker.loop.now += 100;
    record.sent();
    worker.loop.now += 1000;
    record.answered();
    worker.loop.now += 10_000;
    record.end('-', '');
    expect(line()).toMatchObject({ durationMs: 11_110, ttfbMs: 1110, upstreamMs: 1000 });
  });

  test('that was never answered has no time to first byte', () => {
    const record = request(worker.plane);
    record.sent();
    record.end('UF', 'refused');
    expect(line()).toMatchObject({ ttfbMs: null, upstreamMs: null });
  });

  test('counts bytes of bodies, and messages where it is gRPC', async () => {
    const record = request(worker.plane);
    record.grpc = true;
    record.grpcStatus = 0;
    const [one, two] = [grpcMessage(10), grpcMessage(3)];
    record.requestBody(one, 0, one.length);
    record.responseBody(one, 0, one.length);
    record.responseBody(two, 0, two.length);
    record.end('-', '');
    expect(line()).toMatchObject({
      protocol: 'grpc',
      bytesReceived: 15,
      bytesSent: 23,
      requestMessages: 1,
      responseMessages: 2,
      grpcStatus: 0,
    });
    expect((await scrape.now()).sum('istio_response_messages_total')).toBe(2);
  });

  test('over HTTP looks into no bodies', () => {
    const record = request(worker.plane);
    const bytes = grpcMessage(10);
    record.requestBody(bytes, 0, bytes.length);
    expect([record.requestBytes, record.requestMessages]).toEqual([15, 0]);
  });
});

describe('the verdict', () => {
  const denied = decision({ allowed: false, policy: 'shop/deny', rule: 0, reason: 'deny-policy' });
  const cases: readonly [string, string, Partial<RequestRecord>, ResponseFlag, string][] = [
    ['allowed', 'all went well', {}, '-', ''],
    ['allowed', 'the application itself says 403', { status: 403 }, '-', ''],
    ['denied', 'policy denies', { status: 403, decision: denied }, '-', 'denied by shop/deny rule 0'],
    ['denied', 'there is no policy yet', { status: 403 }, '-', 'no policy has been received yet'],
    ['denied', 'the token is refused', { status: 401 }, 'UAEX', 'expired'],
    ['denied', 'gRPC is denied', { status: 200, grpc: true, grpcStatus: 7 }, '-', 'no ALLOW policy matched'],
    ['denied', 'a policy change ends it', { status: 200, decision: denied }, 'LR', 'closed by a policy change'],
    ['failed', 'the endpoint is gone', { status: 503 }, 'UF', 'refused'],
    ['failed', 'the path cannot be normalised', { status: 400 }, '-', 'the path cannot be normalised'],
  ];

  test.each(cases)('is %s where %s', (verdict, _, facts, flag, detail) => {
    const record = Object.assign(request(worker.plane), facts);
    record.end(flag, detail);
    expect(line()).toMatchObject({ verdict, flags: flag, detail });
  });
});

describe('the setting accessLog', () => {
  const linesOf = (accessLog: 'on' | 'off' | 'denied'): number => {
    const one = new WorkerTelemetry(scrape, { accessLog });
    request(one.plane).end('-', '');
    request(one.plane).end('UF', 'refused');
    Object.assign(request(one.plane), { status: 403 }).end('-', 'no ALLOW policy matched');
    return one.lines().length;
  };

  test.each([
    ['on', 3],
    ['denied', 1],
    ['off', 0],
  ] as const)('%s gives %d lines of three requests of which one is denied', (accessLog, lines) => {
    expect(linesOf(accessLog)).toBe(lines);
  });
});

test('lines that nobody fetches are bounded, and those dropped are counted', async () => {
  for (let i = 0; i < 4_000; i++) {
    const record = request(worker.plane);
    record.path = `/${'x'.repeat(900)}`;
    record.end('-', '');
  }
  const dropped = (await scrape.now()).sum('postern_access_log_dropped_total');
  expect(dropped).toBeGreaterThan(0);
  expect(worker.lines().length + dropped).toBe(4_000);
});

describe('a span', () => {
  const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

  function traced(direction: 'inbound' | 'outbound' = 'inbound', facts: Partial<RequestRecord> = {}): void {
    worker = new WorkerTelemetry(scrape, { sampling: 0 });
    const record = Object.assign(request(worker.plane, direction), facts);
    record.follow(TRACEPARENT);
    worker.loop.now += 2.5;
    record.end('-', '');
  }

  test('is made of a sampled request: the server’s inbound, under the caller’s', () => {
    traced('inbound', { userAgent: 'curl/8', requestId: 'r-1', attempts: 2, requestBytes: 10, responseBytes: 20 });
    const [span, ...others] = worker.spans();
    expect(others).toEqual([]);
    expect(span).toEqual({
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      spanId: '0001020304050607',
      parentSpanId: '00f067aa0ba902b7',
      name: 'GET',
      kind: 'server',
      start: '1767225599997500000',
      end: '1767225600000000000',
      failed: false,
      attributes: {
        'http.request.method': 'GET',
        'http.request.resend_count': 1,
        'http.request.size': 10,
        'http.response.size': 20,
        'http.response.status_code': 200,
        'url.scheme': 'http',
        'url.path': '/orders/1',
        'server.address': 'orders.shop',
        'server.port': 8080,
        'client.address': '10.0.0.7',
        'network.peer.address': '10.0.0.7',
        'network.peer.port': 40_000,
        'network.protocol.name': 'http',
        'network.protocol.version': '1.1',
        'user_agent.original': 'curl/8',
        'guid:x-request-id': 'r-1',
        'peer.service': 'orders.shop.svc.cluster.local',
        'postern.source.workload': 'shop/frontend',
        'postern.source.principal': 'spiffe://cluster.local/ns/shop/sa/frontend',
        'postern.destination.workload': 'shop/orders',
        'postern.destination.principal': 'spiffe://cluster.local/ns/shop/sa/orders',
      },
    });
  });

  test('outbound is the client’s, and its peer is where the request went', () => {
    traced('outbound');
    const [span] = worker.spans();
    expect(span?.kind).toBe('client');
    expect(span?.attributes).toMatchObject({ 'network.peer.address': '10.0.0.8', 'network.peer.port': 8080 });
  });

  test('of gRPC has the call’s name and status', () => {
    traced('inbound', { grpc: true, grpcStatus: 5, method: 'POST', path: '/shop.Orders/Get' });
    const [span] = worker.spans();
    expect(span?.name).toBe('shop.Orders/Get');
    expect(span?.attributes).toMatchObject({
      'rpc.system': 'grpc',
      'rpc.service': 'shop.Orders',
      'rpc.method': 'Get',
      'rpc.grpc.status_code': 5,
    });
  });

  test('is not named by a method that a client made up', () => {
    traced('inbound', { method: 'MADEUP' });
    const [span] = worker.spans();
    expect(span?.name).toBe('HTTP');
    expect(span?.attributes).toMatchObject({
      'http.request.method': '_OTHER',
      'http.request.method_original': 'MADEUP',
    });
  });

  test.each([
    ['inbound', { status: 404 }, false],
    ['inbound', { status: 500 }, true],
    ['outbound', { status: 404 }, true],
    ['outbound', { status: 302 }, false],
    ['inbound', { grpc: true, grpcStatus: 5 }, false],
    ['inbound', { grpc: true, grpcStatus: 13 }, true],
    ['outbound', { grpc: true, grpcStatus: 5 }, true],
    ['outbound', { grpc: true, grpcStatus: 0 }, false],
  ] as const)('%s of %j has failed: %s', (direction, facts, failed) => {
    traced(direction, facts);
    expect(worker.spans()[0]?.failed).toBe(failed);
  });

  test('is not made where the caller does not sample', () => {
    worker = new WorkerTelemetry(scrape, { sampling: 1 });
    const record = request(worker.plane);
    record.follow(TRACEPARENT.replace(/01$/, '00'));
    record.end('-', '');
    expect(worker.spans()).toEqual([]);
    expect(line()).toMatchObject({ traceId: '4bf92f3577b34da6a3ce929d0e0e4736' });
  });

  test('too many at a time are dropped and counted, and no message has more than 512', async () => {
    worker = new WorkerTelemetry(scrape, { sampling: 1, accessLog: 'off' });
    for (let i = 0; i < 2_100; i++) {
      const record = request(worker.plane);
      record.follow(null);
      record.end('-', '');
    }
    expect(worker.spans()).toHaveLength(2_048);
    expect((await scrape.now()).sum('postern_spans_dropped_total')).toBe(52);
    const sizes = worker.posted.flatMap((message) => (message.type === 'spans' ? message.spans.length : []));
    expect(Math.max(...sizes)).toBe(512);
  });
});

test('a request through a record has the destination and service that were found late', async () => {
  const record = request(worker.plane, 'outbound');
  record.destination = ORDERS;
  record.service = null;
  record.end('UH', 'no healthy endpoint');
  expect(
    (await scrape.now()).sum('istio_requests_total', { destination_service: 'unknown', response_flags: 'UH' }),
  ).toBe(1);
});
