import { ratioWithinRounds, type Spread, significant, spread } from '../lib/statistics.ts';
import { formatTable, type Row, readable } from '../lib/table.ts';
import { addedLatency, isReached, type Target, verdict } from '../lib/targets.ts';
import type { L4Measurements, LatencyRound, Pair } from './l4.ts';
import type { LatencyWorkload, ThroughputWorkload } from './l4-plan.ts';

/** What Postern must reach, against HAProxy or (memory) by itself. */
export const TARGETS = {
  cpu_per_request_1: { atMost: 1 },
  cpu_per_request_32: { atMost: 0.5 },
  cpu_per_request_128: { atMost: 0.4 },
  cpu_per_gb: { atMost: 0.75 },
  connections_per_second: { atLeast: 10 },
  p99: { atMost: 1 },
  idle_mb: { atMost: 30 },
  per_connection_kb: { atMost: 30 },
} as const;

/** Whoever starves the bulk flow can easily be quick beside it: Postern must carry as much of it as HAProxy, less this much noise. */
const FLOW_TARGET = { atLeast: 0.9 };

interface Comparison {
  readonly label: string;
  readonly unit: string;
  readonly haproxy: Spread;
  readonly postern: Spread;
  /** Postern's over HAProxy's, within rounds. */
  readonly ratio: Spread;
  readonly target: Target | null;
}

export interface L4Report {
  readonly comparisons: { readonly [name: string]: Comparison };
  readonly memory: {
    readonly idle: Pair<number>;
    readonly perConnection: Pair<number>;
    readonly afterLoad: Pair<number>;
  };
  /** Latency straight to the backend, microseconds. */
  readonly direct: { readonly [workload in LatencyWorkload]: { readonly p50: Spread; readonly p99: Spread } };
  readonly rounds: number;
}

export function reportL4(measured: L4Measurements): L4Report {
  const cpu = (workload: ThroughputWorkload, label: string, unit: string, scale: number, target: Target | null) =>
    compare(
      label,
      unit,
      measured.throughput[workload].map(({ haproxy, postern }) => ({
        haproxy: haproxy.cpuPerUnit * scale,
        postern: postern.cpuPerUnit * scale,
      })),
      target,
    );
  const rate = (workload: ThroughputWorkload, label: string, unit: string, target: Target | null) =>
    compare(
      label,
      unit,
      measured.throughput[workload].map(({ haproxy, postern }) => ({
        haproxy: haproxy.unitsPerSecond,
        postern: postern.unitsPerSecond,
      })),
      target,
    );
  const latency = (workload: LatencyWorkload, which: 'p50' | 'p99', label: string, target: Target | null) =>
    compare(label, 'µs', addedBy(measured.latency[workload], which), target);
  const { idle: idleHaproxy, perConnection: connectionHaproxy } = measured.memory.haproxy;
  const { idle: idlePostern, perConnection: connectionPostern } = measured.memory.postern;
  return {
    comparisons: {
      cpu_per_request_1: cpu('small_1', 'CPU per request, 1 connection', 'µs', 1, TARGETS.cpu_per_request_1),
      cpu_per_request_32: cpu('small_32', 'CPU per request, 32 connections', 'µs', 1, TARGETS.cpu_per_request_32),
      cpu_per_request_128: cpu('small_128', 'CPU per request, 128 connections', 'µs', 1, TARGETS.cpu_per_request_128),
      requests_per_second_1: rate('small_1', 'requests a second, 1 connection', '/s', null),
      requests_per_second_32: rate('small_32', 'requests a second, 32 connections', '/s', null),
      requests_per_second_128: rate('small_128', 'requests a second, 128 connections', '/s', null),
      connections_per_second: rate('connect', 'new connections a second', '/s', TARGETS.connections_per_second),
      cpu_per_connection: cpu('connect', 'CPU per new connection', 'µs', 1, null),
      cpu_per_gb_1: cpu('bulk_1', 'CPU per GB, 1 connection', 's', 1e-6, TARGETS.cpu_per_gb),
      cpu_per_gb_8: cpu('bulk_8', 'CPU per GB, 8 connections', 's', 1e-6, TARGETS.cpu_per_gb),
      gb_per_second_1: rate('bulk_1', 'GB a second, 1 connection', 'GB/s', null),
      gb_per_second_8: rate('bulk_8', 'GB a second, 8 connections', 'GB/s', null),
      p50: latency('latency', 'p50', 'added latency p50', null),
      p99: latency('latency', 'p99', 'added latency p99', TARGETS.p99),
      p50_beside_bulk: latency('latency_beside_bulk', 'p50', 'added latency p50 beside a bulk flow', null),
      p99_beside_bulk: latency('latency_beside_bulk', 'p99', 'added latency p99 beside a bulk flow', TARGETS.p99),
      bulk_flow: compare(
        'the bulk flow meanwhile',
        'MB/s',
        measured.latency.latency_beside_bulk.map(({ haproxy, postern }) => ({
          haproxy: haproxy.flow / 1e6,
          postern: postern.flow / 1e6,
        })),
        FLOW_TARGET,
      ),
    },
    memory: {
      idle: { haproxy: idleHaproxy, postern: idlePostern },
      perConnection: { haproxy: connectionHaproxy, postern: connectionPostern },
      afterLoad: measured.memoryAfterLoad,
    },
    direct: {
      latency: directLatency(measured.latency.latency),
      latency_beside_bulk: directLatency(measured.latency.latency_beside_bulk),
    },
    rounds: measured.throughput.small_1.length,
  };
}

function directLatency(rounds: readonly LatencyRound[]): { readonly p50: Spread; readonly p99: Spread } {
  return {
    p50: spread(rounds.map(({ direct }) => direct.p50)),
    p99: spread(rounds.map(({ direct }) => direct.p99)),
  };
}

function addedBy(rounds: readonly LatencyRound[], which: 'p50' | 'p99'): readonly Pair<number>[] {
  return rounds.map(({ direct, haproxy, postern }) => ({
    haproxy: addedLatency(haproxy[which], direct[which]),
    postern: addedLatency(postern[which], direct[which]),
  }));
}

function compare(label: string, unit: string, rounds: readonly Pair<number>[], target: Target | null): Comparison {
  const haproxy = rounds.map((round) => round.haproxy);
  const postern = rounds.map((round) => round.postern);
  return {
    label,
    unit,
    haproxy: spread(haproxy),
    postern: spread(postern),
    ratio: ratioWithinRounds(postern, haproxy),
    target,
  };
}

/** For people. */
export function formatL4(report: L4Report): string {
  const rows: Row[] = Object.values(report.comparisons).map(({ label, unit, haproxy, postern, ratio, target }) => [
    label,
    `${readable(haproxy.median)} ${unit}`,
    `${readable(postern.median)} ${unit}`,
    String(significant(ratio.median) ?? '–'), // a digit more than the rest: 1.004 misses a target of 1
    `${readable(ratio.low)} – ${readable(ratio.high)}`,
    ...verdict(ratio.median, target),
  ]);
  const memory = (label: string, { haproxy, postern }: Pair<number>, unit: string, target: Target | null): Row => [
    label,
    `${readable(haproxy)} ${unit}`,
    `${readable(postern)} ${unit}`,
    '',
    '',
    ...verdict(postern, target),
  ];
  const { idle, perConnection, afterLoad } = inUnits(report);
  rows.push(
    null,
    memory('private memory, idle', idle, 'MB', TARGETS.idle_mb),
    memory('private memory, per idle connection', perConnection, 'KB', TARGETS.per_connection_kb),
    memory('private memory, after the load', afterLoad, 'MB', null),
  );
  const table = formatTable(['', 'HAProxy', 'Postern', 'Postern/HAProxy', 'in the rounds', 'target', 'reached'], rows);
  const { latency, latency_beside_bulk: beside } = report.direct;
  const direct = `p99 ${readable(latency.p99.median)} µs, beside a bulk flow ${readable(beside.p99.median)} µs`;
  const note = `Medians of ${report.rounds} interleaved rounds; ratios within rounds. CPU: both proxies together, one core. Latency: less that without proxies (${direct}). Memory: RssAnon, the larger proxy.`;
  return `${table}\n\n${note}`;
}

/** Decimal units: 1 MB is 10⁶ bytes, 1 KB 10³. */
function inUnits({ memory }: L4Report): {
  readonly idle: Pair<number>;
  readonly perConnection: Pair<number>;
  readonly afterLoad: Pair<number>;
} {
  const scale = ({ haproxy, postern }: Pair<number>, unit: number): Pair<number> => ({
    haproxy: haproxy / unit,
    postern: postern / unit,
  });
  return {
    idle: scale(memory.idle, 1e6),
    perConnection: scale(memory.perConnection, 1e3),
    afterLoad: scale(memory.afterLoad, 1e6),
  };
}

/** For programs. Where a ratio stands for two workloads (1 and 8 connections; alone and beside bulk) it is the worse one. */
export function jsonL4(report: L4Report): object {
  const ratio = (...names: readonly string[]): number | null =>
    significant(Math.max(...names.map((name) => report.comparisons[name]?.ratio.median ?? Number.NaN)));
  const { idle, perConnection, afterLoad } = inUnits(report);
  const figures = ({ haproxy, postern }: Pair<number>): object => ({
    haproxy: significant(haproxy),
    postern: significant(postern),
  });
  const described = Object.entries(report.comparisons).map(([name, { unit, ratio: within, ...comparison }]) => [
    name,
    {
      unit,
      ...figures({ haproxy: comparison.haproxy.median, postern: comparison.postern.median }),
      ratio: significant(within.median),
      ratio_low: significant(within.low),
      ratio_high: significant(within.high),
      reached: comparison.target === null ? null : isReached(within.median, comparison.target),
    },
  ]);
  return {
    ratios: {
      cpu_per_request_1: ratio('cpu_per_request_1'),
      cpu_per_request_32: ratio('cpu_per_request_32'),
      cpu_per_request_128: ratio('cpu_per_request_128'),
      cpu_per_gb: ratio('cpu_per_gb_1', 'cpu_per_gb_8'),
      connections_per_second: ratio('connections_per_second'),
      p99: ratio('p99', 'p99_beside_bulk'),
    },
    memory: {
      idle_mb: significant(idle.postern),
      per_connection_kb: significant(perConnection.postern),
    },
    rounds: report.rounds,
    detail: Object.fromEntries(described),
    direct_latency: {
      p50: significant(report.direct.latency.p50.median),
      p99: significant(report.direct.latency.p99.median),
      p50_beside_bulk: significant(report.direct.latency_beside_bulk.p50.median),
      p99_beside_bulk: significant(report.direct.latency_beside_bulk.p99.median),
    },
    memory_detail: {
      idle_mb: figures(idle),
      per_connection_kb: figures(perConnection),
      after_load_mb: figures(afterLoad),
    },
  };
}
