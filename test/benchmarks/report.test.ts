import { describe, expect, test } from 'vitest';
import { tcpPolicyManifests } from '../../benchmarks/lib/mesh-manifests.ts';
import { formatTable, readable } from '../../benchmarks/lib/table.ts';
import { isReached } from '../../benchmarks/lib/targets.ts';
import { locateTools } from '../../benchmarks/lib/tools.ts';
import type { L4Measurements, LatencyRound } from '../../benchmarks/suites/l4.ts';
import { formatL4, jsonL4, reportL4 } from '../../benchmarks/suites/l4-report.ts';

const throughput = (haproxyCpu: number, posternCpu: number, haproxyRate = 100, posternRate = 200) => [
  {
    haproxy: { cpuPerUnit: haproxyCpu, unitsPerSecond: haproxyRate },
    postern: { cpuPerUnit: posternCpu, unitsPerSecond: posternRate },
  },
];

const latency = (direct: number, haproxy: number, postern: number): LatencyRound[] => {
  const at = (p99: number) => ({ p50: p99 / 2, p99, max: p99 * 2, count: 1000, flow: 100e6 });
  return [{ direct: at(direct), haproxy: at(haproxy), postern: at(postern) }];
};

const measured: L4Measurements = {
  throughput: {
    small_1: throughput(100, 90),
    small_32: throughput(45, 20),
    small_128: throughput(80, 24),
    connect: throughput(3000, 150, 500, 8000),
    bulk_1: throughput(2_400_000, 1_800_000),
    bulk_8: throughput(2_000_000, 1_600_000),
  },
  latency: { latency: latency(500, 1500, 1000), latency_beside_bulk: latency(600, 2600, 3600) },
  memory: { haproxy: { idle: 9e6, perConnection: 31_000 }, postern: { idle: 15e6, perConnection: 4000 } },
  memoryAfterLoad: { haproxy: 40e6, postern: 22e6 },
};

describe('the JSON report', () => {
  const json = JSON.parse(JSON.stringify(jsonL4(reportL4(measured))));

  test('begins with the ratios and the memory that are promised, under exactly these names', () => {
    expect(Object.keys(json).slice(0, 2)).toEqual(['ratios', 'memory']);
    expect(Object.keys(json.ratios)).toEqual([
      'cpu_per_request_1',
      'cpu_per_request_32',
      'cpu_per_request_128',
      'cpu_per_gb',
      'connections_per_second',
      'p99',
    ]);
    expect(json.memory).toEqual({ idle_mb: 15, per_connection_kb: 4 });
  });

  test("holds Postern's figures over HAProxy's", () => {
    expect(json.ratios).toMatchObject({
      cpu_per_request_1: 0.9,
      cpu_per_request_32: 0.4444,
      cpu_per_request_128: 0.3,
      connections_per_second: 16,
    });
  });

  test('gives the worse one where a ratio stands for two workloads', () => {
    expect(json.ratios.cpu_per_gb).toBe(0.8); // 0.75 with one connection, 0.8 with eight
    expect(json.ratios.p99).toBe(1.5); // added 500 against 1000 alone, 3000 against 2000 beside bulk
    expect(json.detail.p99).toMatchObject({ haproxy: 1000, postern: 500, ratio: 0.5, reached: true });
    expect(json.detail.p99_beside_bulk).toMatchObject({ ratio: 1.5, reached: false });
  });
});

test('added latency that the generator cannot tell from none counts as its resolution, never as negative', () => {
  const quiet = { ...measured, latency: { ...measured.latency, latency: latency(500, 700, 480) } };
  expect(reportL4(quiet).comparisons.p99).toMatchObject({ postern: { median: 10 }, haproxy: { median: 200 } });
});

test('a contender that starves the bulk flow does not reach the target, however quick it is beside it', () => {
  const [round] = measured.latency.latency_beside_bulk;
  if (round === undefined) throw new Error('no round');
  const starving = { ...round, postern: { ...round.postern, flow: 50e6 } };
  const report = reportL4({ ...measured, latency: { ...measured.latency, latency_beside_bulk: [starving] } });
  expect(formatL4(report)).toMatch(/the bulk flow meanwhile +100 MB\/s +50 MB\/s +0\.5 .* NO/);
});

test('the table says of each target whether it is reached', () => {
  const lines = formatL4(reportL4(measured)).split('\n');
  const line = (label: string): string => lines.find((text) => text.startsWith(label)) ?? '';
  expect(line('CPU per request, 32 connections')).toMatch(/45 µs +20 µs +0\.4444 .* ≤ 0\.5 +yes$/);
  expect(line('CPU per GB, 8 connections')).toMatch(/≤ 0\.75 +NO$/);
  expect(line('new connections a second')).toMatch(/≥ 10 +yes$/);
  expect(line('private memory, idle')).toMatch(/9 MB +15 MB .*≤ 30 +yes$/);
});

test.each([
  { value: 0.5, target: { atMost: 0.5 }, expected: true },
  { value: 0.51, target: { atMost: 0.5 }, expected: false },
  { value: 10, target: { atLeast: 10 }, expected: true },
  { value: 9.9, target: { atLeast: 10 }, expected: false },
  { value: Number.NaN, target: { atMost: 1 }, expected: false },
])('$value against $target: $expected', ({ value, target, expected }) => {
  expect(isReached(value, target)).toBe(expected);
});

test('a table aligns its first column left and the others right, and draws a rule for null', () => {
  expect(formatTable(['', 'a'], [['name', '1'], null, ['x', '1000']])).toBe(
    ['         a', '----  ----', 'name     1', '----  ----', 'x     1000'].join('\n'),
  );
});

test.each([
  [0, '0'],
  [0.012345, '0.0123'],
  [123.456, '123'],
  [1234.5, '1 235'],
  [1_234_567, '1 234 567'],
  [Number.NaN, '–'],
])('%d reads %j', (value, expected) => {
  expect(readable(value)).toBe(expected);
});

test('missing tools are all named, with the command that installs them and exit code 69', () => {
  const find = (name: string): string | null => (['haproxy', 'wrk', 'taskset'].includes(name) ? null : `/bin/${name}`);
  expect(() => locateTools(find)).toThrow(
    expect.objectContaining({
      code: 'ERR_BENCH_TOOLS',
      exitCode: 69,
      message: expect.stringMatching(/haproxy, wrk, taskset.*apt-get install haproxy wrk util-linux$/),
    }),
  );
});

test('the mesh has 100 policies with names of their own, of which six select the server', () => {
  const policies = tcpPolicyManifests();
  expect(policies).toHaveLength(100);
  expect(new Set(policies.map(({ metadata }) => metadata.name)).size).toBe(100);
  const selecting = policies.filter(({ spec }) => JSON.stringify(spec.selector).includes('"server"'));
  expect(selecting).toHaveLength(6);
});
