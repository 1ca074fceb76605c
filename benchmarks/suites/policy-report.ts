import { ratioWithinRounds, type Spread, significant, spread } from '../lib/statistics.ts';
import { formatTable, type Row, readable } from '../lib/table.ts';
import { isReached, verdict } from '../lib/targets.ts';
import type { Cost, PolicyMeasurements, Size } from './policy.ts';
import { WORKLOADS } from './policy-workloads.ts';

/** Nanoseconds at 1,000 rules, and the cost at 10,000 over that at 10. */
export const POLICY_TARGETS = {
  ns_at_1000: { atMost: 2_000 },
  ratio_10000_to_10: { atMost: 3 },
} as const;

interface Line {
  readonly label: string;
  /** Nanoseconds. */
  readonly cost: { readonly [size in Size]: Spread };
  /** At 10,000 rules over that at 10, within rounds. */
  readonly ratio: Spread;
}

export interface PolicyReport {
  readonly decisions: { readonly [workload: string]: Line };
  readonly connections: { readonly [workload: string]: Line };
  readonly rounds: number;
}

export function reportPolicy({ request, connection }: PolicyMeasurements): PolicyReport {
  const lines = (costs: { readonly [workload: string]: Cost }, what: string) =>
    Object.fromEntries(
      Object.entries(costs).map(([name, cost]): [string, Line] => [
        name,
        {
          label: `${what}, ${WORKLOADS[name]?.label ?? name}`,
          cost: { 10: spread(cost[10]), 1000: spread(cost[1_000]), 10000: spread(cost[10_000]) },
          ratio: ratioWithinRounds(cost[10_000], cost[10]),
        },
      ]),
    );
  const rounds = Object.values(request)[0]?.[10].length ?? 0;
  return { decisions: lines(request, 'a request'), connections: lines(connection, 'a connection'), rounds };
}

/** For people. */
export function formatPolicy(report: PolicyReport): string {
  const row = ({ label, cost, ratio }: Line, hasTarget: boolean): Row => [
    label,
    `${readable(cost[10].median)} ns`,
    `${readable(cost[1_000].median)} ns`,
    `${readable(cost[10_000].median)} ns`,
    ...(hasTarget ? verdict(cost[1_000].median, POLICY_TARGETS.ns_at_1000) : ['', '']),
    String(significant(ratio.median) ?? '–'),
    `${readable(ratio.low)} – ${readable(ratio.high)}`,
    ...(hasTarget ? verdict(ratio.median, POLICY_TARGETS.ratio_10000_to_10) : ['', '']),
  ];
  const rows: Row[] = [
    ...Object.values(report.decisions).map((line) => row(line, true)),
    null,
    ...Object.values(report.connections).map((line) => row(line, false)),
  ];
  const table = formatTable(
    ['', '10 rules', '1,000', '10,000', 'target', 'reached', '10,000/10', 'in the rounds', 'target', 'reached'],
    rows,
  );
  const note = `Medians of ${report.rounds} interleaved rounds; ratios within rounds. A request: one decision, its strings new. A connection: what is found once for all its requests. Two rules concern the caller, whatever their number.`;
  return `${table}\n\n${note}`;
}

/** For programs. Each ratio and figure is that of the worst workload. */
export function jsonPolicy(report: PolicyReport): object {
  const worst = (figure: (line: Line) => number): number | null =>
    significant(Math.max(...Object.values(report.decisions).map(figure)));
  const detail = (lines: PolicyReport['decisions'], hasTarget: boolean): object =>
    Object.fromEntries(
      Object.entries(lines).map(([name, { cost, ratio }]) => [
        name,
        {
          unit: 'ns',
          rules_10: significant(cost[10].median),
          rules_1000: significant(cost[1_000].median),
          rules_10000: significant(cost[10_000].median),
          ratio: significant(ratio.median),
          ratio_low: significant(ratio.low),
          ratio_high: significant(ratio.high),
          reached: hasTarget
            ? isReached(cost[1_000].median, POLICY_TARGETS.ns_at_1000) &&
              isReached(ratio.median, POLICY_TARGETS.ratio_10000_to_10)
            : null,
        },
      ]),
    );
  return {
    ratios: { decision_10000_to_10: worst(({ ratio }) => ratio.median) },
    nanoseconds: {
      decision_10: worst(({ cost }) => cost[10].median),
      decision_1000: worst(({ cost }) => cost[1_000].median),
      decision_10000: worst(({ cost }) => cost[10_000].median),
    },
    rounds: report.rounds,
    detail: detail(report.decisions, true),
    connection: detail(report.connections, false),
  };
}
