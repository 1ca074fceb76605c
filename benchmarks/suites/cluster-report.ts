import { quantile, significant } from '../lib/statistics.ts';
import { formatTable, type Row, readable } from '../lib/table.ts';
import type { ClusterMeasurements } from './cluster.ts';

const MEGABYTE = 1e6;

/** For people. */
export function formatCluster(measured: ClusterMeasurements): string {
  const { plan, memory } = measured;
  const spread = (label: string, values: readonly number[]): Row => [
    label,
    `${readable(quantile(values, 0.5))} ms`,
    `${readable(quantile(values, 0.99))} ms`,
    `${readable(quantile(values, 1))} ms`,
  ];
  const one = (label: string, text: string): Row => [label, text, '', ''];
  const table = formatTable(
    ['', 'p50', 'p99', 'worst'],
    [
      spread('a policy change at every sidecar', measured.policyMs),
      spread(`a new pod, while ${plan.churnPerSecond} a second are replaced`, measured.churnMs),
      null,
      one('start to ready, everything read', `${readable(measured.startSeconds)} s`),
      one('CPU of the control plane for each pod replaced', `${readable(measured.cpuPerPod / 1e6)} ms`),
      one('private memory, ready', `${readable(memory.ready / MEGABYTE)} MB`),
      one('private memory, sidecars connected', `${readable(memory.connected / MEGABYTE)} MB`),
      one('private memory, after the churn', `${readable(memory.afterChurn / MEGABYTE)} MB`),
    ],
  );
  const note = `${plan.services} services, ${plan.pods} pods, ${plan.sidecars} connected sidecars, one replica. Times from the change in the API server to its arrival at a sidecar; pushes are debounced by 100 ms, 1 s at most. The API server is the tests' stand-in.`;
  return `${table}\n\n${note}`;
}

/** For programs. Milliseconds, seconds, bytes. */
export function jsonCluster({ plan, policyMs, churnMs, ...measured }: ClusterMeasurements): object {
  const quantiles = (values: readonly number[]) => ({
    p50: significant(quantile(values, 0.5)),
    p99: significant(quantile(values, 0.99)),
    worst: significant(quantile(values, 1)),
    samples: values.length,
  });
  const { services, pods, sidecars } = plan;
  return {
    size: { services, pods, sidecars },
    policy_ms: quantiles(policyMs),
    churn_ms: quantiles(churnMs),
    start_seconds: significant(measured.startSeconds),
    cpu_ms_per_pod: significant(measured.cpuPerPod / 1e6),
    memory_bytes: measured.memory,
  };
}
