import { Backend, FORBIDDEN_PATH, MEDIUM_PATH, SMALL_PATH } from '../lib/backend.ts';
import type { Contender, Endpoint, HttpContender } from '../lib/contender.ts';
import { measureH2 } from '../lib/h2-load.ts';
import { HaproxyHttpContender } from '../lib/haproxy-http.ts';
import { answers } from '../lib/http.ts';
import { measureRequests, type Throughput } from '../lib/load.ts';
import { H2_SERVICE_PORT, httpPolicyManifests, httpServiceManifest, SERVICE_PORT } from '../lib/mesh-manifests.ts';
import { NginxContender } from '../lib/nginx-http.ts';
import { type Latency, measureLatency } from '../lib/open-loop.ts';
import { PosternContender, type PosternSetup } from '../lib/postern.ts';
import { inRounds, measureOne, type Progress } from '../lib/rounds.ts';
import type { Workbench } from '../lib/workbench.ts';
import {
  HTTP1_WORKLOADS,
  HTTP2_WORKLOADS,
  type Http1Workload,
  type Http2Workload,
  type HttpPlan,
  WARM_UP_HTTP,
} from './http-plan.ts';

/** One value for each contender. nginx speaks no HTTP/2 to what it passes requests on to: null there. */
export interface Trio<T> {
  readonly haproxy: T;
  readonly nginx: T | null;
  readonly postern: T;
}

export interface HttpLatencyRound extends Trio<Latency> {
  /** Straight to the backend. */
  readonly direct: Latency;
}

/** All that was measured; the rounds of a workload in order. */
export interface HttpMeasurements {
  readonly throughput: { readonly [workload in Http1Workload | Http2Workload]: readonly Trio<Throughput>[] };
  readonly latency: readonly HttpLatencyRound[];
}

/** HTTP over mutual TLS with a path rule: HAProxy, nginx and Postern, measured in turns. */
export async function measureHttp(bench: Workbench, plan: HttpPlan, progress: Progress): Promise<HttpMeasurements> {
  const started = performance.now();
  progress('starting the backend, HAProxy, nginx and Postern');
  const backend = await Backend.start(bench);
  const haproxy = new HaproxyHttpContender(bench, backend);
  const nginx = new NginxContender(bench, backend);
  const postern = new PosternHttpContender(bench, backend);
  await haproxy.start();
  await nginx.start();
  await postern.start();
  const suite = new HttpSuite(bench, backend, { haproxy, nginx, postern });

  progress('warming up');
  await suite.round(WARM_UP_HTTP);
  suite.forget();
  await inRounds(plan, started, progress, () => suite.round(plan));
  await Promise.all([haproxy.stop(), nginx.stop(), postern.stop()]);
  return suite.rounds;
}

class HttpSuite {
  readonly #bench: Workbench;
  readonly #backend: Backend;
  readonly #contenders: { readonly [name in keyof Trio<unknown>]: HttpContender };
  rounds = emptyRounds();

  constructor(
    bench: Workbench,
    backend: Backend,
    contenders: { readonly [name in keyof Trio<unknown>]: HttpContender },
  ) {
    this.#bench = bench;
    this.#backend = backend;
    this.#contenders = contenders;
  }

  forget(): void {
    this.rounds = emptyRounds();
  }

  /** Every workload once, the contenders directly after one another: nothing that drifts has time to drift. */
  async round(plan: HttpPlan): Promise<void> {
    for (const workload of HTTP1_WORKLOADS) {
      const trio = await this.#inTurn(workload, (contender) => this.#http1(workload, plan, contender));
      this.rounds.throughput[workload].push(trio);
    }
    for (const workload of HTTP2_WORKLOADS) {
      const trio = await this.#inTurn(workload, (contender) => this.#http2(workload, plan, contender));
      this.rounds.throughput[workload].push(trio);
    }
    const { signal } = this.#bench;
    const direct = await measureLatency(this.#backend.endpoint, plan.latency, signal);
    const trio = await this.#inTurn('latency', (contender) =>
      measureLatency(contender.clientAddress, plan.latency, signal),
    );
    this.rounds.latency.push({ direct, ...trio });
  }

  async #inTurn<T>(what: string, measure: (contender: HttpContender) => Promise<T>): Promise<Trio<T>> {
    const one = (contender: HttpContender): Promise<T> => measureOne(what, contender, measure);
    const { haproxy, nginx, postern } = this.#contenders;
    const http2 = (HTTP2_WORKLOADS as readonly string[]).includes(what);
    const first = await one(haproxy);
    const second = http2 && nginx.h2Address === null ? null : await one(nginx);
    return { haproxy: first, nginx: second, postern: await one(postern) };
  }

  async #http1(workload: Http1Workload, plan: HttpPlan, contender: Contender): Promise<Throughput> {
    const connections = workload === 'h1_small_128' ? 128 : 32;
    const path = workload === 'h1_medium_32' ? MEDIUM_PATH : SMALL_PATH;
    const { requests } = plan;
    return await measureRequests(this.#bench, this.#backend, contender, {
      ...requests,
      connections,
      reconnect: false,
      path,
    });
  }

  async #http2(workload: Http2Workload, plan: HttpPlan, contender: HttpContender): Promise<Throughput> {
    const what = workload === 'grpc_unary' ? 'grpc' : 'get';
    return await measureH2(this.#bench, this.#backend, contender, { ...plan.requests, ...plan.h2, what });
  }
}

function emptyRounds(): {
  readonly throughput: { readonly [workload in Http1Workload | Http2Workload]: Trio<Throughput>[] };
  readonly latency: HttpLatencyRound[];
} {
  return {
    throughput: { h1_small_32: [], h1_small_128: [], h1_medium_32: [], h2_small: [], grpc_unary: [] },
    latency: [],
  };
}

/** Postern with a port for each version of HTTP; of its ten policies for the server one is the path rule that the others have. */
class PosternHttpContender extends PosternContender implements HttpContender {
  readonly #bench: Workbench;

  constructor(bench: Workbench, backend: Backend) {
    super(bench, posternSetup(backend));
    this.#bench = bench;
  }

  get h2Address(): Endpoint {
    return this.addressOf(1);
  }

  override async start(): Promise<void> {
    await super.start();
    await this.#bench.until('Postern refuses by its rule, and logs it', 10_000, async () => {
      await this.settle();
      const refused = await answers(this.clientAddress, FORBIDDEN_PATH, 403);
      await this.#bench.sleep(200);
      return refused && this.serverLog().includes('bench/deny-admin');
    });
  }
}

function posternSetup(backend: Backend): PosternSetup {
  return {
    manifests: [httpServiceManifest(), ...httpPolicyManifests()],
    ports: [
      { port: SERVICE_PORT, application: backend.endpoint },
      { port: H2_SERVICE_PORT, application: backend.h2Endpoint },
    ],
    accessLog: 'denied',
    probePath: SMALL_PATH,
    counted: {
      client: /^istio_requests_total\{[^}]*reporter="source"[^}]*\} [1-9]/m,
      server: /^istio_requests_total\{[^}]*connection_security_policy="mutual_tls"[^}]*\} [1-9]/m,
    },
  };
}
