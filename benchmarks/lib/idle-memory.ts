import { PosternError } from '../../mesh/errors.ts';
import type { Contender } from './contender.ts';
import { openConnections } from './http-connection.ts';
import { privateMemory } from './memory.ts';
import type { Workbench } from './workbench.ts';

export interface MemoryPlan {
  readonly connections: number;
  /** Connections opened and closed before the baseline of the per-connection figure, so that one-time costs (compiled code, pools) are not shared out among connections. */
  readonly warmConnections: number;
  /** Milliseconds between a change and its reading: time to give back what is held only while busy. */
  readonly restMs: number;
}

/** Bytes of private memory; of the two proxies the larger one. */
export interface MemoryFigures {
  readonly idle: number;
  readonly perConnection: number;
}

/** To be run before any load: `idle` is a proxy that has relayed no more than the probe of its readiness. */
export async function measureMemory(bench: Workbench, contender: Contender, plan: MemoryPlan): Promise<MemoryFigures> {
  await bench.sleep(plan.restMs);
  const idle = Math.max(...contender.pids.map(privateMemory));
  await holdOpen(bench, contender, plan.warmConnections, 0, () => undefined);
  await bench.sleep(plan.restMs);
  const before = contender.pids.map(privateMemory);
  const held = await holdOpen(bench, contender, plan.connections, plan.restMs, () => contender.pids.map(privateMemory));
  const growth = held.map((bytes, side) => (bytes - (before[side] ?? 0)) / plan.connections);
  return { idle, perConnection: Math.max(...growth) };
}

/** Holds `count` connections, each of which has carried one request, for `holdMs`, then reads. */
async function holdOpen<T>(
  bench: Workbench,
  contender: Contender,
  count: number,
  holdMs: number,
  read: () => T,
): Promise<T> {
  const connections = await openConnections(contender.clientAddress, count);
  try {
    await bench.sleep(holdMs);
    const result = read();
    const open = connections.filter((connection) => connection.isOpen).length;
    if (open !== count) {
      throw new PosternError('ERR_BENCH_LOAD', `${contender.name} closed ${count - open} of ${count} idle connections`);
    }
    return result;
  } finally {
    for (const connection of connections) connection.close();
  }
}
