import { setImmediate } from 'node:timers/promises';
import { compilePolicies } from '../../policy/authorization.ts';
import type { PolicyMesh, RequestDecider } from '../../policy/types.ts';
import { CALLER, type PolicyWorkload, WORKLOADS } from './policy-workloads.ts';

/** Rules in all. */
export const SIZES = [10, 1_000, 10_000] as const;
export type Size = (typeof SIZES)[number];

export interface PolicyPlan {
  readonly rounds: number;
  /** Stops after the round in which this has passed. */
  readonly limitMs: number;
  /** Of each workload and size, in each round. */
  readonly decisions: number;
}

export const FULL_POLICY: PolicyPlan = { rounds: 15, limitMs: 60_000, decisions: 50_000 };
export const QUICK_POLICY: PolicyPlan = { rounds: 5, limitMs: 15_000, decisions: 20_000 };

/** Nanoseconds per decision, by round. */
export type Cost = { readonly [size in Size]: readonly number[] };

export interface PolicyMeasurements {
  /** A decision on a request of a connection that lives. */
  readonly request: { readonly [workload: string]: Cost };
  /** What the first request of a connection costs on top. */
  readonly connection: { readonly [workload: string]: Cost };
}

const MESH: PolicyMesh = {
  trustDomain: 'cluster.local',
  trustDomainAliases: [],
  rootNamespace: 'istio-system',
  defaultAction: 'ALLOW',
  pathNormalization: 'BASE',
  extensionProviders: [],
};
const SERVER = { namespace: 'shop', labels: { app: 'orders' } };
const BATCH = 500;

/** One workload at one size, compiled. */
interface Subject {
  readonly workload: PolicyWorkload;
  readonly connect: () => RequestDecider;
  readonly request: number[];
  readonly connection: number[];
}

/** Measures by turns: each round has every workload at every size, so that the machine's drift falls on all alike. */
export async function measurePolicy(
  plan: PolicyPlan,
  signal: AbortSignal,
  progress: (line: string) => void,
): Promise<PolicyMeasurements> {
  const subjects = new Map(Object.entries(WORKLOADS).map(([name, workload]) => [name, compileSizes(workload)]));
  progress(`compiled ${subjects.size} sets of up to ${SIZES.at(-1)} rules`);
  const all = [...subjects.values()].flatMap((bySize) => SIZES.map((size) => bySize[size]));
  // Unmeasured: V8 compiles what it finds to be hot.
  for (const subject of all) measure({ ...subject, request: [], connection: [] }, plan.decisions);
  const started = performance.now();
  for (let round = 0; round < plan.rounds && performance.now() - started < plan.limitMs; round++) {
    for (const subject of all) measure(subject, plan.decisions);
    // Signals are heard between rounds.
    await setImmediate();
    signal.throwIfAborted();
  }
  progress(`measured ${all[0]?.request.length ?? 0} rounds`);
  const of = (which: 'request' | 'connection') =>
    Object.fromEntries([...subjects].map(([name, bySize]) => [name, costOf((size) => bySize[size][which])]));
  return { request: of('request'), connection: of('connection') };
}

function costOf(cost: (size: Size) => readonly number[]): Cost {
  return { 10: cost(10), 1000: cost(1_000), 10000: cost(10_000) };
}

function compileSizes(workload: PolicyWorkload): { readonly [size in Size]: Subject } {
  const compiled = (size: Size): Subject => {
    const policies = compilePolicies(workload.policies(size), SERVER, MESH);
    return { workload, connect: () => policies.forConnection(CALLER), request: [], connection: [] };
  };
  return { 10: compiled(10), 1000: compiled(1_000), 10000: compiled(10_000) };
}

/** Only deciding is timed; requests are made between batches, so that their strings are new as on the wire. */
function measure({ workload, connect, request, connection }: Subject, decisions: number): void {
  const decider = connect();
  let nanoseconds = 0;
  let allowed = 0;
  for (let done = 0; done < decisions; done += BATCH) {
    const requests = Array.from({ length: BATCH }, (_, index) => workload.request(done + index));
    const from = process.hrtime.bigint();
    for (const one of requests) if (decider.decide(one, workload.claims).allowed) allowed++;
    nanoseconds += Number(process.hrtime.bigint() - from);
  }
  // Rules that decided nothing, or everything alike, would make the figure mean nothing.
  if (allowed === 0 || allowed === decisions) throw new Error(`${workload.label}: ${allowed} of ${decisions} allowed`);
  request.push(nanoseconds / decisions);
  const connections = Math.ceil(decisions / 10);
  const from = process.hrtime.bigint();
  for (let index = 0; index < connections; index++) connect();
  connection.push(Number(process.hrtime.bigint() - from) / connections);
}
