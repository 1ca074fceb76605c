import { writeFileSync } from 'node:fs';
import { type Backend, GRPC_PATH, grpcMessage, SMALL_PATH } from './backend.ts';
import { type Endpoint, type HttpContender, hostPort } from './contender.ts';
import { loadFailure, measureWithin, type Throughput, type Window } from './load.ts';
import type { Workbench } from './workbench.ts';

export interface H2Plan extends Window {
  readonly connections: number;
  /** Requests at a time on each connection. */
  readonly streams: number;
  /** A small page, or a unary call of gRPC. */
  readonly what: 'get' | 'grpc';
}

/** HTTP/2 requests by h2load, as many as go. */
export async function measureH2(
  bench: Workbench,
  backend: Backend,
  contender: HttpContender,
  plan: H2Plan,
): Promise<Throughput> {
  const target = contender.h2Address;
  if (target === null) throw new Error(`${contender.name} carries no HTTP/2`);
  const { output, sample } = await measureWithin(bench, backend, contender, plan, (seconds) => ({
    name: 'h2load',
    command: bench.tools.h2load,
    args: h2loadArguments(bench, target, plan, seconds),
    core: bench.cores.load,
    stderr: bench.path('h2load.stderr'),
  }));
  checkH2load(output, contender.name);
  return sample;
}

function h2loadArguments(bench: Workbench, target: Endpoint, plan: H2Plan, seconds: number): readonly string[] {
  const load = ['-t', '1', '-c', String(plan.connections), '-m', String(plan.streams), '-D', String(seconds)];
  if (plan.what === 'get') return [...load, `http://${hostPort(target)}${SMALL_PATH}`];
  const message = bench.path('grpc-message');
  writeFileSync(message, grpcMessage());
  const headers = ['-H', 'content-type: application/grpc', '-H', 'te: trailers'];
  return [...load, ...headers, '-d', message, `http://${hostPort(target)}${GRPC_PATH}`];
}

/** @throws PosternError ERR_BENCH_LOAD where h2load saw any failure or an answer other than 2xx. */
export function checkH2load(output: string, name: string): void {
  const requests = /^requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored/m.exec(output);
  const statuses = /^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/m.exec(output);
  if (requests === null || statuses === null) throw loadFailure(`h2load said nothing of its requests through ${name}`);
  const [, , failed, errored] = requests;
  if (failed !== '0' || errored !== '0') {
    throw loadFailure(`h2load had ${failed} requests that failed and ${errored} errors through ${name}`);
  }
  const [, , ...others] = statuses;
  if (others.some((count) => count !== '0')) {
    throw loadFailure(`h2load got answers other than 2xx through ${name}: ${statuses[0]}`);
  }
}
