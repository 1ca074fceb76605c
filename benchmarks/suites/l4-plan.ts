import type { MemoryPlan } from '../lib/idle-memory.ts';
import type { Window } from '../lib/load.ts';
import type { OpenLoopPlan } from '../lib/open-loop.ts';

export const THROUGHPUT_WORKLOADS = ['small_1', 'small_32', 'small_128', 'connect', 'bulk_1', 'bulk_8'] as const;
export type ThroughputWorkload = (typeof THROUGHPUT_WORKLOADS)[number];

export const LATENCY_WORKLOADS = ['latency', 'latency_beside_bulk'] as const;
export type LatencyWorkload = (typeof LATENCY_WORKLOADS)[number];

/** How long, how much, how often. Times in milliseconds. */
export interface L4Plan {
  readonly rounds: number;
  /** No new round begins that would end after this; the first one always runs. */
  readonly limitMs: number;
  readonly small: Window;
  /** Connections that wrk keeps busy while each request takes a new one: enough to saturate. */
  readonly reconnecting: number;
  /** Downloads of 100 MB after one another on each connection, by number of connections. */
  readonly bulk: { readonly one: number; readonly eight: number };
  readonly latency: OpenLoopPlan;
  /** Of the flow beside which `latency_beside_bulk` runs: well below what either contender carries, so that both carry the same. */
  readonly bulkFlowBytesPerSecond: number;
  readonly memory: MemoryPlan;
}

export const FULL: L4Plan = {
  rounds: 7,
  limitMs: 8 * 60_000,
  small: { settleMs: 500, windowMs: 2_300 },
  reconnecting: 32,
  bulk: { one: 4, eight: 1 },
  latency: { connections: 32, perSecond: 4_000, settleMs: 300, windowMs: 2_000 },
  bulkFlowBytesPerSecond: 100_000_000,
  memory: { connections: 1_000, warmConnections: 200, restMs: 3_000 },
};

/** The same workloads, shorter and seldomer: for a look, not for a claim. */
export const QUICK: L4Plan = {
  ...FULL,
  rounds: 2,
  limitMs: 2 * 60_000,
  small: { settleMs: 400, windowMs: 1_400 },
  bulk: { one: 2, eight: 1 },
  latency: { ...FULL.latency, windowMs: 1_000 },
  memory: { ...FULL.memory, restMs: 2_000 },
};

/** One unmeasured pass: caches, connection pools, compiled JavaScript. */
export const WARM_UP: L4Plan = {
  ...QUICK,
  rounds: 1,
  small: { settleMs: 100, windowMs: 700 },
  bulk: { one: 1, eight: 1 },
  latency: { ...FULL.latency, settleMs: 100, windowMs: 300 },
};
