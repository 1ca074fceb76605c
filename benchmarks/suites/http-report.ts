import { ratioWithinRounds, type Spread, significant, spread } from '../lib/statistics.ts';
import { formatTable, type Row, readable } from '../lib/table.ts';
import { addedLatency, isReached, type Target, verdict } from '../lib/targets.ts';
import type { HttpMeasurements, Trio } from './http.ts';
import type { Http1Workload, Http2Workload } from './http-plan.ts';

/** What Postern must reach: CPU against the better of HAProxy and nginx (HTTP/2: HAProxy), latency against HAProxy. */
export const HTTP_TARGETS = {
  cpu_per_request_32: { atMost: 0.7 },
  cpu_per_request_128: { atMost: 0.5 },
  cpu_per_h2_request: { atMost: 0.7 },
  p99: { atMost: 1 },
} as const;

interface Comparison {
  readonly label: string;
  readonly unit: string;
  readonly haproxy: Spread;
  readonly nginx: Spread | null;
  readonly postern: Spread;
  /** Within rounds; CPU and latency: over the smaller of the others', rates: over the larger. */
  readonly ratio: Spread;
  readonly target: Target | null;
}

export interface HttpReport {
  readonly comparisons: { readonly [name: string]: Comparison };
  /** p99 straight to the backend, microseconds. */
  readonly directP99: number;
  readonly rounds: number;
}

export function reportHttp(measured: HttpMeasurements): HttpReport {
  const { throughput, latency } = measured;
  const cpu = (workload: Http1Workload | Http2Workload, label: string, target: Target | null): Comparison =>
    compare(`CPU per ${label}`, 'µs', throughput[workload].map(each(({ cpuPerUnit }) => cpuPerUnit)), Math.min, target);
  const rate = (workload: Http1Workload | Http2Workload, label: string): Comparison =>
    compare(label, '/s', throughput[workload].map(each(({ unitsPerSecond }) => unitsPerSecond)), Math.max, null);
  const added = (which: 'p50' | 'p99', target: Target | null): Comparison => {
    const rounds = latency.map(({ direct, ...round }) =>
      each((through: typeof direct) => addedLatency(through[which], direct[which]))(round),
    );
    // Against HAProxy alone, as the target says.
    const against = (haproxy: number): number => haproxy;
    return compare(`added latency ${which} at 1,000 requests/s`, 'µs', rounds, against, target);
  };
  return {
    comparisons: {
      cpu_per_request_32: cpu('h1_small_32', 'request, 32 connections', HTTP_TARGETS.cpu_per_request_32),
      cpu_per_request_128: cpu('h1_small_128', 'request, 128 connections', HTTP_TARGETS.cpu_per_request_128),
      cpu_per_64k_request: cpu('h1_medium_32', 'request of 64 KiB, 32 connections', null),
      cpu_per_h2_request: cpu('h2_small', 'HTTP/2 request', HTTP_TARGETS.cpu_per_h2_request),
      cpu_per_grpc_call: cpu('grpc_unary', 'gRPC call', HTTP_TARGETS.cpu_per_h2_request),
      requests_per_second_32: rate('h1_small_32', 'requests a second, 32 connections'),
      requests_per_second_128: rate('h1_small_128', 'requests a second, 128 connections'),
      requests_64k_per_second: rate('h1_medium_32', 'requests of 64 KiB a second'),
      h2_requests_per_second: rate('h2_small', 'HTTP/2 requests a second'),
      grpc_calls_per_second: rate('grpc_unary', 'gRPC calls a second'),
      p50: added('p50', null),
      p99: added('p99', HTTP_TARGETS.p99),
    },
    directP99: spread(latency.map(({ direct }) => direct.p99)).median,
    rounds: latency.length,
  };
}

/** The same figure of each contender. */
function each<T>(figure: (of: T) => number): (trio: Trio<T>) => Trio<number> {
  return ({ haproxy, nginx, postern }) => ({
    haproxy: figure(haproxy),
    nginx: nginx === null ? null : figure(nginx),
    postern: figure(postern),
  });
}

function compare(
  label: string,
  unit: string,
  rounds: readonly Trio<number>[],
  better: (...others: number[]) => number,
  target: Target | null,
): Comparison {
  const postern = rounds.map((round) => round.postern);
  const best = rounds.map(({ haproxy, nginx }) => (nginx === null ? haproxy : better(haproxy, nginx)));
  const nginx = rounds.flatMap((round) => (round.nginx === null ? [] : [round.nginx]));
  return {
    label,
    unit,
    haproxy: spread(rounds.map(({ haproxy }) => haproxy)),
    nginx: nginx.length === 0 ? null : spread(nginx),
    postern: spread(postern),
    ratio: ratioWithinRounds(postern, best),
    target,
  };
}

/** For people. */
export function formatHttp(report: HttpReport): string {
  const rows: Row[] = Object.values(report.comparisons).map(
    ({ label, unit, haproxy, nginx, postern, ratio, target }) => [
      label,
      `${readable(haproxy.median)} ${unit}`,
      nginx === null ? '' : `${readable(nginx.median)} ${unit}`,
      `${readable(postern.median)} ${unit}`,
      String(significant(ratio.median) ?? '–'),
      `${readable(ratio.low)} – ${readable(ratio.high)}`,
      ...verdict(ratio.median, target),
    ],
  );
  const header = ['', 'HAProxy', 'nginx', 'Postern', 'Postern/better', 'in the rounds', 'target', 'reached'];
  const note = `Medians of ${report.rounds} interleaved rounds; ratios within rounds, to the better of the two (latency and HTTP/2: to HAProxy). CPU: both proxies together, one core. Latency: less that without proxies (p99 ${readable(report.directP99)} µs).`;
  return `${formatTable(header, rows)}\n\n${note}`;
}

/** For programs: the ratios with a target first; `cpu_per_h2_request` is the worse one of plain requests and gRPC calls. */
export function jsonHttp(report: HttpReport): object {
  const ratio = (...names: readonly string[]): number | null =>
    significant(Math.max(...names.map((name) => report.comparisons[name]?.ratio.median ?? Number.NaN)));
  const described = Object.entries(report.comparisons).map(([name, comparison]) => [
    name,
    {
      unit: comparison.unit,
      haproxy: significant(comparison.haproxy.median),
      nginx: comparison.nginx === null ? null : significant(comparison.nginx.median),
      postern: significant(comparison.postern.median),
      ratio: significant(comparison.ratio.median),
      ratio_low: significant(comparison.ratio.low),
      ratio_high: significant(comparison.ratio.high),
      reached: comparison.target === null ? null : isReached(comparison.ratio.median, comparison.target),
    },
  ]);
  return {
    ratios: {
      cpu_per_request_32: ratio('cpu_per_request_32'),
      cpu_per_request_128: ratio('cpu_per_request_128'),
      cpu_per_h2_request: ratio('cpu_per_h2_request', 'cpu_per_grpc_call'),
      p99: ratio('p99'),
    },
    rounds: report.rounds,
    detail: Object.fromEntries(described),
    direct_latency: { p99: significant(report.directP99) },
  };
}
