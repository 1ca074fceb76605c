import { Backend, SMALL_PATH } from '../lib/backend.ts';
import { BulkFlow } from '../lib/bulk-flow.ts';
import type { Contender, Endpoint } from '../lib/contender.ts';
import { HaproxyContender } from '../lib/haproxy.ts';
import { type MemoryFigures, measureMemory } from '../lib/idle-memory.ts';
import { measureBulk, measureRequests, type Throughput } from '../lib/load.ts';
import { privateMemory } from '../lib/memory.ts';
import { SERVICE_PORT, tcpPolicyManifests, tcpServiceManifest } from '../lib/mesh-manifests.ts';
import { type Latency, measureLatency } from '../lib/open-loop.ts';
import { PosternContender, type PosternSetup } from '../lib/postern.ts';
import { inRounds, measureOne, type Progress } from '../lib/rounds.ts';
import type { Workbench } from '../lib/workbench.ts';
import {
  type L4Plan,
  LATENCY_WORKLOADS,
  type LatencyWorkload,
  THROUGHPUT_WORKLOADS,
  type ThroughputWorkload,
  WARM_UP,
} from './l4-plan.ts';

/** One value for each contender. */
export interface Pair<T> {
  readonly haproxy: T;
  readonly postern: T;
}

/** Latency, and what the bulk flow beside it carried, bytes a second; 0 where there was none. */
export interface LatencySample extends Latency {
  readonly flow: number;
}

export interface LatencyRound extends Pair<LatencySample> {
  /** Straight to the backend. */
  readonly direct: LatencySample;
}

/** All that was measured; the rounds of a workload in order. */
export interface L4Measurements {
  readonly throughput: { readonly [workload in ThroughputWorkload]: readonly Pair<Throughput>[] };
  readonly latency: { readonly [workload in LatencyWorkload]: readonly LatencyRound[] };
  readonly memory: Pair<MemoryFigures>;
  /** Private memory after all load has ended, bytes; of the two proxies the larger. */
  readonly memoryAfterLoad: Pair<number>;
}

/** Raw TCP over mutual TLS: HAProxy against Postern, measured in turns. */
export async function measureL4(bench: Workbench, plan: L4Plan, progress: Progress): Promise<L4Measurements> {
  const started = performance.now();
  progress('starting the backend, HAProxy and Postern');
  const backend = await Backend.start(bench);
  const haproxy = new HaproxyContender(bench, backend.endpoint, SMALL_PATH);
  const postern = new PosternContender(bench, posternSetup(backend));
  await haproxy.start();
  await postern.start();
  const suite = new L4Suite(bench, backend, { haproxy, postern });

  progress(`memory: idle, and with ${plan.memory.connections} connections`);
  const memory = await suite.memory(plan);
  progress('warming up');
  await suite.round(WARM_UP);
  suite.forget();
  await inRounds(plan, started, progress, () => suite.round(plan));
  await bench.sleep(plan.memory.restMs);
  const memoryAfterLoad = {
    haproxy: Math.max(...haproxy.pids.map(privateMemory)),
    postern: Math.max(...postern.pids.map(privateMemory)),
  };
  await Promise.all([haproxy.stop(), postern.stop()]);
  return { ...suite.rounds, memory, memoryAfterLoad };
}

function posternSetup(backend: Backend): PosternSetup {
  return {
    manifests: [tcpServiceManifest(), ...tcpPolicyManifests()],
    ports: [{ port: SERVICE_PORT, application: backend.endpoint }],
    accessLog: 'on',
    probePath: SMALL_PATH,
    counted: {
      client: /^istio_tcp_connections_opened_total\{[^}]*reporter="source"[^}]*\} [1-9]/m,
      server: /^istio_tcp_connections_opened_total\{[^}]*connection_security_policy="mutual_tls"[^}]*\} [1-9]/m,
    },
  };
}

class L4Suite {
  readonly #bench: Workbench;
  readonly #backend: Backend;
  readonly #contenders: Pair<Contender>;
  rounds = emptyRounds();

  constructor(bench: Workbench, backend: Backend, contenders: Pair<Contender>) {
    this.#bench = bench;
    this.#backend = backend;
    this.#contenders = contenders;
  }

  forget(): void {
    this.rounds = emptyRounds();
  }

  async memory(plan: L4Plan): Promise<Pair<MemoryFigures>> {
    return await this.#inTurn('memory', (contender) => measureMemory(this.#bench, contender, plan.memory));
  }

  /** Every workload once, the contenders directly after one another: nothing that drifts has time to drift. */
  async round(plan: L4Plan): Promise<void> {
    for (const workload of THROUGHPUT_WORKLOADS) {
      const pair = await this.#inTurn(workload, (contender) => this.#throughput(workload, plan, contender));
      this.rounds.throughput[workload].push(pair);
    }
    for (const workload of LATENCY_WORKLOADS) {
      const direct = await this.#latency(workload, plan, this.#backend.endpoint);
      const pair = await this.#inTurn(workload, (contender) => this.#latency(workload, plan, contender.clientAddress));
      this.rounds.latency[workload].push({ direct, ...pair });
    }
  }

  async #inTurn<T>(what: string, measure: (contender: Contender) => Promise<T>): Promise<Pair<T>> {
    const one = (contender: Contender): Promise<T> => measureOne(what, contender, measure);
    const haproxy = await one(this.#contenders.haproxy);
    return { haproxy, postern: await one(this.#contenders.postern) };
  }

  async #throughput(workload: ThroughputWorkload, plan: L4Plan, contender: Contender): Promise<Throughput> {
    const small = (connections: number, reconnect: boolean): Promise<Throughput> =>
      measureRequests(this.#bench, this.#backend, contender, {
        ...plan.small,
        connections,
        reconnect,
        path: SMALL_PATH,
      });
    const bulk = (connections: number, each: number): Promise<Throughput> =>
      measureBulk(this.#bench, contender, { connections, each });
    switch (workload) {
      case 'small_1':
        return await small(1, false);
      case 'small_32':
        return await small(32, false);
      case 'small_128':
        return await small(128, false);
      case 'connect':
        return await small(plan.reconnecting, true);
      case 'bulk_1':
        return await bulk(1, plan.bulk.one);
      case 'bulk_8':
        return await bulk(8, plan.bulk.eight);
    }
  }

  async #latency(workload: LatencyWorkload, plan: L4Plan, target: Endpoint): Promise<LatencySample> {
    const { signal } = this.#bench;
    if (workload === 'latency') return { ...(await measureLatency(target, plan.latency, signal)), flow: 0 };
    const seconds = (plan.latency.settleMs + plan.latency.windowMs) / 1000;
    const flow = await BulkFlow.open(target, plan.bulkFlowBytesPerSecond, seconds);
    try {
      const latency = await measureLatency(target, plan.latency, signal);
      return { ...latency, flow: flow.bytesPerSecond() };
    } finally {
      flow.close();
    }
  }
}

function emptyRounds(): {
  readonly throughput: { readonly [workload in ThroughputWorkload]: Pair<Throughput>[] };
  readonly latency: { readonly [workload in LatencyWorkload]: LatencyRound[] };
} {
  return {
    throughput: { small_1: [], small_32: [], small_128: [], connect: [], bulk_1: [], bulk_8: [] },
    latency: { latency: [], latency_beside_bulk: [] },
  };
}
