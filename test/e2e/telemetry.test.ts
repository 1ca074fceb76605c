import { once } from 'node:events';
import * as http2 from 'node:http2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { METRICS } from '../../proxy/control/metric-definitions.ts';
import { queries } from '../manifests/telemetry-manifests.ts';
import { Collector, type ExportedSpan } from '../proxy/control/support/collector.ts';
import { type App, echoApp, ping, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, http2App, readAll } from '../support/http-apps.ts';
import { Mesh, policyManifest, serviceManifest } from '../support/mesh.ts';
import type { Metrics, Sample } from '../support/prometheus.ts';
import { namesIn } from '../support/promql.ts';
import type { AccessLogLine } from '../support/sidecar.ts';

const ORDERS = 'orders.shop:8080';
const ECHO = 'echo.shop:9090';
const RAW = 'raw.shop:7070';
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const BOTH = ['frontend', 'orders'] as const;

let apps: { readonly orders: HttpApp; readonly echo: HttpApp; readonly raw: App };
let collector: Collector;
let mesh: Mesh;
const at = (service: string): TcpAddress => mesh.workload('frontend').upstream(service);
const traceparent = (sampled: boolean): string => `00-${TRACE}-00f067aa0ba902b7-${sampled ? '01' : '00'}`;

function grpcMessage(text: string): Buffer {
  const bytes = Buffer.alloc(5 + text.length);
  bytes.writeUInt32BE(text.length, 1);
  bytes.write(text, 5, 'latin1');
  return bytes;
}

/** A gRPC call of two messages, which are answered by three and the status NOT_FOUND. */
async function call(): Promise<void> {
  const { address, port } = at(ECHO);
  const session = http2.connect(`http://${address}:${port}`);
  session.on('error', () => undefined);
  try {
    const headers = {
      ':method': 'POST',
      ':path': '/test.Echo/Chat',
      'content-type': 'application/grpc',
      te: 'trailers',
    };
    const stream = session.request(headers);
    const trailers = once(stream, 'trailers');
    stream.write(grpcMessage('one'));
    stream.end(grpcMessage('two'));
    await readAll(stream);
    const [fields] = (await trailers) as [http2.IncomingHttpHeaders];
    if (fields['grpc-status'] !== '5') throw new Error(`the call ends with ${fields['grpc-status']}`);
  } finally {
    session.destroy();
  }
}

beforeAll(async () => {
  const orders = await http1App((request, response) => {
    response.statusCode = request.url?.startsWith('/missing') === true ? 404 : 200;
    response.end('x'.repeat(2_000));
  });
  const echo = await http2App((stream) => {
    stream.on('error', () => undefined);
    void readAll(stream).then(() => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '5' }));
      for (const text of ['a', 'b']) stream.write(grpcMessage(text));
      stream.end(grpcMessage('c'));
    });
  });
  apps = { orders, echo, raw: await echoApp() };
  collector = new Collector();
  const config = { tracing: { endpoint: await collector.listen(), sampling: 0 } };
  const allow = (name: string): string => policyManifest({ name: `allow-${name}`, app: name, from: ['frontend'] });
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080, 8080, 'http'),
      'echo.yaml': serviceManifest('echo', 9090, 9090, 'grpc'),
      'raw.yaml': serviceManifest('raw', 7070, 7070, 'tcp'),
      'allow-orders.yaml': allow('orders'),
      'allow-echo.yaml': allow('echo'),
      'allow-raw.yaml': allow('raw'),
      'deny.yaml': policyManifest({
        name: 'no-admin',
        app: 'orders',
        action: 'DENY',
        from: ['frontend'],
        paths: ['/admin*'],
      }),
    },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: apps.orders }], config },
      { name: 'echo', expose: [{ port: 9090, application: apps.echo }], config },
      { name: 'raw', expose: [{ port: 7070, application: apps.raw }], config },
      { name: 'frontend', upstreams: [ORDERS, ECHO, RAW], config },
    ],
  });
  const isUp = async (): Promise<boolean> => {
    await call();
    await ping(at(RAW));
    return (await ask(at(ORDERS), '/warm')).status === 200;
  };
  await eventually(isUp, { what: 'the endpoints to reach frontend' });
});

afterAll(async () => {
  await mesh?.stop();
  for (const app of Object.values(apps ?? {})) await app.close();
  collector?.close();
});

/** What a series of both sidecars has gained by `act`. */
async function gained(act: () => Promise<unknown>, of: (metrics: Metrics) => number, wanted: number): Promise<void> {
  const server = ['orders', 'echo'] as const;
  const read = async (): Promise<number[]> => {
    const all = await Promise.all(['frontend', ...server].map(async (name) => of(await mesh.workload(name).metrics())));
    const [client = 0, ...servers] = all;
    return [client, servers.reduce((sum, value) => sum + value, 0)];
  };
  const before = await read();
  await act();
  await eventually(
    async () => {
      const now = await read();
      return now.every((value, i) => value - (before[i] ?? 0) === wanted);
    },
    { what: `${wanted} more at both ends` },
  );
}

describe('requests count at both ends, with Istio’s labels', () => {
  test('by status, with their sizes', async () => {
    const labels = {
      response_code: '404',
      request_protocol: 'http',
      response_flags: '-',
      destination_service_name: 'orders',
    };
    const act = (): Promise<unknown> => ask(at(ORDERS), '/missing');
    await gained(act, (metrics) => metrics.sum('istio_requests_total', labels), 1);
    await gained(act, (metrics) => metrics.sum('istio_request_duration_milliseconds_count', labels), 1);
    const bucket = (metrics: Metrics, le: string): number =>
      metrics.sum('istio_response_bytes_bucket', { ...labels, le });
    await gained(act, (metrics) => bucket(metrics, '2500') - bucket(metrics, '1000'), 1);
  });

  test('with the identities and workloads of both sides', async () => {
    await ask(at(ORDERS), '/');
    for (const [name, reporter, security] of [
      ['frontend', 'source', 'unknown'],
      ['orders', 'destination', 'mutual_tls'],
    ] as const) {
      const labels = {
        reporter,
        source_workload: 'frontend',
        source_principal: mesh.workload('frontend').spiffeId,
        destination_workload: 'orders',
        destination_principal: mesh.workload('orders').spiffeId,
        destination_service: 'orders.shop.svc.cluster.local',
        response_code: '200',
        connection_security_policy: security,
      };
      const counted = async (): Promise<boolean> =>
        (await mesh.workload(name).metrics()).sum('istio_requests_total', labels) > 0;
      await eventually(counted, { what: `the request in ${name}'s metrics` });
    }
  });

  test('gRPC by its status, and its messages in both directions', async () => {
    const labels = { request_protocol: 'grpc', grpc_response_status: '5', response_code: '200' };
    await gained(call, (metrics) => metrics.sum('istio_requests_total', labels), 1);
    await gained(call, (metrics) => metrics.sum('istio_request_messages_total', labels), 2);
    await gained(call, (metrics) => metrics.sum('istio_response_messages_total', labels), 3);
  });

  test('and not as TCP connections', async () => {
    const tcp = (metrics: Metrics): number => metrics.sum('istio_tcp_connections_opened_total');
    const http = (metrics: Metrics): number => metrics.sum('istio_requests_total');
    // Read together: the request is counted, and what it is counted as.
    await gained(
      () => ask(at(ORDERS), '/'),
      (metrics) => http(metrics) + 1_000 * tcp(metrics),
      1,
    );
  });

  test('none is left in flight', async () => {
    const idle = async (): Promise<boolean> => {
      const all = await Promise.all(BOTH.map(async (name) => await mesh.workload(name).metrics()));
      return all.every((metrics) => metrics.sum('postern_http_requests_in_flight') === 0);
    };
    await eventually(idle, { what: 'no request in flight' });
  });
});

describe('a denied request', () => {
  test('is a decision of its policy, and a 403 at both ends', async () => {
    const deny = (): Promise<unknown> => ask(at(ORDERS), '/admin');
    await gained(
      deny,
      (metrics) => metrics.sum('istio_requests_total', { response_code: '403', response_flags: '-' }),
      1,
    );
    const labels = { policy: 'shop/no-admin', rule: '0', verdict: 'denied' };
    expect((await mesh.workload('orders').metrics()).sum('postern_policy_decisions_total', labels)).toBe(1);
  });

  test('has a line in the access log that names policy, rule and reason, and not the query', async () => {
    await ask(at(ORDERS), '/admin/users?password=hunter2', { headers: { 'user-agent': 'a "tool"' } });
    const line = await mesh
      .workload('orders')
      .accessLogLine((one) => one.path === '/admin/users', 'the request to /admin/users');
    expect(line).toMatchObject({
      direction: 'inbound',
      protocol: 'http',
      transport: 'hbone',
      verdict: 'denied',
      policy: 'shop/no-admin',
      rule: 0,
      reason: 'deny-policy',
      method: 'GET',
      version: 'http/1.1',
      status: 403,
      service: 'orders.shop.svc.cluster.local',
      userAgent: 'a "tool"',
      flags: '-',
      attempts: 0,
    });
    expect(mesh.workload('orders').logLines().concat(mesh.workload('frontend').logLines())).not.toContainEqual(
      expect.objectContaining({ path: expect.stringContaining('hunter2') }),
    );
  });
});

test('both sidecars log a request with the same trace and request ID', async () => {
  await ask(at(ORDERS), '/logged', { headers: { traceparent: traceparent(false), 'x-request-id': 'r-17' } });
  const lines: AccessLogLine[] = [];
  for (const name of BOTH) {
    lines.push(await mesh.workload(name).accessLogLine((one) => one.path === '/logged', 'the request to /logged'));
  }
  expect(lines.map(({ traceId }) => traceId)).toEqual([TRACE, TRACE]);
  expect(new Set(lines.map(({ requestId }) => requestId)).size).toBe(1);
  for (const line of lines) {
    expect(line).toMatchObject({ verdict: 'allowed', status: 200, attempts: 1, bytesReceived: expect.any(Number) });
    expect(line.bytesSent).toBeGreaterThan(2_000);
    expect(line.durationMs).toBeGreaterThanOrEqual(line.ttfbMs as number);
  }
});

describe('spans', () => {
  const ofTrace = (service: string): ExportedSpan[] =>
    collector.spans(service).filter(({ traceId }) => traceId === TRACE);

  test('of a sampled request are exported by both sidecars, the server’s under the client’s', async () => {
    await ask(at(ORDERS), '/traced?secret=1', { headers: { traceparent: traceparent(true) } });
    const both = await eventually(
      () => {
        const [client, server] = [ofTrace('frontend.shop')[0], ofTrace('orders.shop')[0]];
        return client !== undefined && server !== undefined && { client, server };
      },
      { what: 'both spans' },
    );
    const { client, server } = both;
    expect(client).toMatchObject({ kind: 3, parentSpanId: '00f067aa0ba902b7' });
    expect(server).toMatchObject({ kind: 2, parentSpanId: client.spanId });
    expect(JSON.stringify(both)).not.toContain('secret');
    const exported = async (): Promise<boolean> =>
      (await mesh.workload('orders').metrics()).sum('postern_spans_exported_total') === 1;
    await eventually(exported, { what: 'the span to be counted' });
  });

  test('of requests that their caller does not sample are not', () => {
    expect(ofTrace('orders.shop')).toHaveLength(1);
  });
});

describe('the dashboard and the alerts', () => {
  const scrapes = async (): Promise<string[]> =>
    await Promise.all(
      ['frontend', 'orders', 'echo', 'raw'].map(async (name) => {
        const { address } = mesh.workload(name);
        return await (await fetch(`http://${address}:15020/metrics`)).text();
      }),
    );

  const nameOf = (metric: string): string => metric.replace(/_(?:bucket|sum|count)$/, '');
  const ofSidecars = new Set(METRICS.map(({ name }) => name));
  const asked = [
    ...new Set(queries().flatMap(({ expression }) => namesIn(expression).selectors.map(({ metric }) => metric))),
  ];

  /** Those of `names` that a scrape does not have. */
  function missingIn(text: string, names: readonly string[]): string[] {
    const exposed = new Set([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`));
    return names.filter(
      (name) => ![`${name} counter`, `${name} gauge`, `${nameOf(name)} histogram`].some((one) => exposed.has(one)),
    );
  }

  test('ask for metrics that every sidecar exposes, and else for the control plane’s', async () => {
    const isOfSidecars = (metric: string): boolean => ofSidecars.has(metric) || ofSidecars.has(nameOf(metric));
    for (const text of await scrapes()) expect(missingIn(text, asked.filter(isOfSidecars))).toEqual([]);
    const controlPlane = await (await fetch(`http://${mesh.address}:15014/metrics`)).text();
    expect(
      missingIn(
        controlPlane,
        asked.filter((metric) => !isOfSidecars(metric)),
      ),
    ).toEqual([]);
  });

  test('select by labels that the series of real traffic have', async () => {
    await ask(at(ORDERS), '/admin');
    const names = ['frontend', 'orders', 'echo', 'raw'] as const;
    const samples = (await Promise.all(names.map(async (name) => await mesh.workload(name).metrics()))).flatMap(
      (metrics): readonly Sample[] => metrics.samples,
    );
    const scrapeLabels = ['instance', 'namespace'];
    let seen = 0;
    for (const { where, expression } of queries()) {
      const { selectors, grouping } = namesIn(expression);
      for (const { metric, matchers } of selectors) {
        const sample = samples.find(({ name }) => name === metric);
        if (sample === undefined) continue;
        seen++;
        const lacking = [...matchers.keys(), ...grouping].filter(
          (label) => !(label in sample.labels || scrapeLabels.includes(label)),
        );
        expect([where, metric, lacking]).toEqual([where, metric, []]);
      }
    }
    expect(seen).toBeGreaterThan(60);
    const silent = queries().flatMap(({ expression }) =>
      namesIn(expression).selectors.flatMap(({ metric }) =>
        metric.startsWith('istio_') && !samples.some(({ name }) => name === metric) ? [metric] : [],
      ),
    );
    expect(silent).toEqual([]);
  });
});
