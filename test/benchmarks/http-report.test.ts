import { describe, expect, test } from 'vitest';
import { checkH2load } from '../../benchmarks/lib/h2-load.ts';
import { httpPolicyManifests } from '../../benchmarks/lib/mesh-manifests.ts';
import type { HttpMeasurements, Trio } from '../../benchmarks/suites/http.ts';
import { formatHttp, jsonHttp, reportHttp } from '../../benchmarks/suites/http-report.ts';

const cost = (haproxy: number, nginx: number | null, postern: number): Trio<never>[] => {
  const of = (cpuPerUnit: number) => ({ cpuPerUnit, unitsPerSecond: 1e6 / cpuPerUnit });
  return [{ haproxy: of(haproxy), nginx: nginx === null ? null : of(nginx), postern: of(postern) }] as Trio<never>[];
};

const at = (p99: number) => ({ p50: p99 / 2, p99, max: p99 * 2, count: 1000 });

const measured: HttpMeasurements = {
  throughput: {
    h1_small_32: cost(60, 50, 30),
    h1_small_128: cost(60, 80, 30),
    h1_medium_32: cost(200, 210, 150),
    h2_small: cost(70, null, 35),
    grpc_unary: cost(80, null, 60),
  },
  latency: [{ direct: at(500), haproxy: at(900), nginx: at(600), postern: at(800) }],
};

describe('the JSON report of HTTP', () => {
  const json = JSON.parse(JSON.stringify(jsonHttp(reportHttp(measured))));

  test('begins with the ratios that have a target', () => {
    expect(Object.keys(json)[0]).toBe('ratios');
    expect(Object.keys(json.ratios)).toEqual([
      'cpu_per_request_32',
      'cpu_per_request_128',
      'cpu_per_h2_request',
      'p99',
    ]);
  });

  test('compares with the better of HAProxy and nginx, whichever it is', () => {
    expect(json.ratios.cpu_per_request_32).toBe(0.6); // nginx
    expect(json.ratios.cpu_per_request_128).toBe(0.5); // HAProxy
  });

  test('gives the worse one of plain HTTP/2 and gRPC', () => {
    expect(json.ratios.cpu_per_h2_request).toBe(0.75);
  });

  test('compares added latency with HAProxy, also where nginx is better', () => {
    expect(json.ratios.p99).toBe(0.75);
  });

  test('has no figure of nginx where it takes no part', () => {
    expect(json.detail.cpu_per_h2_request.nginx).toBeNull();
    expect(json.detail.cpu_per_request_32.nginx).toBe(50);
  });
});

test('the table says of each target whether it is reached', () => {
  const lines = formatHttp(reportHttp(measured)).split('\n');
  const line = (label: string): string => lines.find((text) => text.startsWith(label)) ?? '';
  expect(line('CPU per request, 32 connections')).toMatch(/60 µs +50 µs +30 µs +0\.6 .* ≤ 0\.7 +yes$/);
  expect(line('CPU per gRPC call')).toMatch(/0\.75 .* ≤ 0\.7 +NO$/);
});

describe('what h2load says', () => {
  const said = (requests: string, statuses: string): string =>
    `finished in 2.00s, 100 req/s\nrequests: 200 total, 210 started, 200 done, ${requests}, 0 timeout\nstatus codes: ${statuses}\n`;

  test('passes where everything succeeded', () => {
    const output = said('200 succeeded, 0 failed, 0 errored', '200 2xx, 0 3xx, 0 4xx, 0 5xx');
    expect(() => checkH2load(output, 'X')).not.toThrow();
  });

  test.each([
    ['199 succeeded, 1 failed, 0 errored', '200 2xx, 0 3xx, 0 4xx, 0 5xx', /1 requests that failed/],
    ['199 succeeded, 0 failed, 1 errored', '200 2xx, 0 3xx, 0 4xx, 0 5xx', /1 errors/],
    ['200 succeeded, 0 failed, 0 errored', '199 2xx, 0 3xx, 1 4xx, 0 5xx', /other than 2xx/],
  ])('ends the run: %s, %s', (requests, statuses, message) => {
    expect(() => checkH2load(said(requests, statuses), 'X')).toThrow(message);
  });

  test('ends the run where it says nothing', () => {
    expect(() => checkH2load('', 'X')).toThrow(/said nothing/);
  });
});

test('ten of the 100 policies select the server', () => {
  const policies = httpPolicyManifests();
  expect(policies).toHaveLength(100);
  expect(new Set(policies.map(({ metadata }) => metadata.name)).size).toBe(100);
  expect(policies.filter(({ spec }) => JSON.stringify(spec.selector).includes('"server"'))).toHaveLength(10);
});
