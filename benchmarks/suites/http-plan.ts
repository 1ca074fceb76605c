import type { Window } from '../lib/load.ts';
import type { OpenLoopPlan } from '../lib/open-loop.ts';

export const HTTP1_WORKLOADS = ['h1_small_32', 'h1_small_128', 'h1_medium_32'] as const;
export type Http1Workload = (typeof HTTP1_WORKLOADS)[number];

export const HTTP2_WORKLOADS = ['h2_small', 'grpc_unary'] as const;
export type Http2Workload = (typeof HTTP2_WORKLOADS)[number];

/** How long, how much, how often. Times in milliseconds. */
export interface HttpPlan {
  readonly rounds: number;
  /** No new round begins that would end after this; the first one always runs. */
  readonly limitMs: number;
  readonly requests: Window;
  /** Connections of h2load, and requests at a time on each. */
  readonly h2: { readonly connections: number; readonly streams: number };
  readonly latency: OpenLoopPlan;
}

export const FULL_HTTP: HttpPlan = {
  rounds: 7,
  limitMs: 8 * 60_000,
  requests: { settleMs: 500, windowMs: 2_300 },
  h2: { connections: 8, streams: 16 },
  latency: { connections: 32, perSecond: 1_000, settleMs: 300, windowMs: 2_500 },
};

/** The same workloads, shorter and seldomer: for a look, not for a claim. */
export const QUICK_HTTP: HttpPlan = {
  ...FULL_HTTP,
  rounds: 2,
  limitMs: 2 * 60_000,
  requests: { settleMs: 400, windowMs: 1_400 },
  latency: { ...FULL_HTTP.latency, windowMs: 1_200 },
};

/** One unmeasured pass: pools, compiled JavaScript. */
export const WARM_UP_HTTP: HttpPlan = {
  ...QUICK_HTTP,
  rounds: 1,
  requests: { settleMs: 100, windowMs: 900 },
  latency: { ...FULL_HTTP.latency, settleMs: 100, windowMs: 300 },
};
