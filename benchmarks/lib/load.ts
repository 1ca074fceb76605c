import { PosternError } from '../../mesh/errors.ts';
import { type Backend, BULK_BYTES, BULK_PATH } from './backend.ts';
import { type Contender, type Endpoint, hostPort } from './contender.ts';
import { startCpuMeter } from './cpu.ts';
import type { Launch } from './processes.ts';
import type { Workbench } from './workbench.ts';

/** What a saturating workload gave in one round. */
export interface Throughput {
  /** CPU of both proxies together, microseconds per unit (request, connection or GB of 10⁹ bytes). */
  readonly cpuPerUnit: number;
  readonly unitsPerSecond: number;
}

/** Milliseconds. */
export interface Window {
  /** Before counting begins: handshakes and slow starts are not what is measured. */
  readonly settleMs: number;
  /** Counted. */
  readonly windowMs: number;
}

export interface WrkPlan extends Window {
  readonly connections: number;
  /** A connection of its own for every request. */
  readonly reconnect: boolean;
  readonly path: string;
}

const GENERATOR_GRACE_MS = 10_000;

/** Requests by wrk, as many as go. */
export async function measureRequests(
  bench: Workbench,
  backend: Backend,
  contender: Contender,
  plan: WrkPlan,
): Promise<Throughput> {
  const { output, sample } = await measureWithin(bench, backend, contender, plan, (seconds) => ({
    name: 'wrk',
    command: bench.tools.wrk,
    args: wrkArguments(contender.clientAddress, plan, seconds),
    core: bench.cores.load,
    stderr: bench.path('wrk.stderr'),
  }));
  checkWrk(output, contender.name);
  return sample;
}

/**
 * Runs a generator and counts a window that lies inside its run: requests come from the backend's counter and CPU from the kernel's, both read at its
 * two ends, so neither connecting nor the generator's own rounding is counted.
 */
export async function measureWithin(
  bench: Workbench,
  backend: Backend,
  contender: Contender,
  plan: Window,
  generator: (seconds: number) => Launch,
): Promise<{ readonly output: string; readonly sample: Throughput }> {
  const seconds = Math.ceil((plan.settleMs + plan.windowMs + 200) / 1000);
  const running = bench.processes.run(generator(seconds), seconds * 1000 + GENERATOR_GRACE_MS);
  const [output, sample] = await Promise.all([running, countWindow(bench, backend, contender, plan)]);
  return { output, sample };
}

async function countWindow(
  bench: Workbench,
  backend: Backend,
  contender: Contender,
  plan: Window,
): Promise<Throughput> {
  await bench.sleep(plan.settleMs);
  const requestsBefore = await backend.requests();
  const meter = startCpuMeter(contender.pids);
  const started = performance.now();
  await bench.sleep(plan.windowMs);
  const requestsAfter = await backend.requests();
  const cpuNanoseconds = meter.stop();
  const elapsed = performance.now() - started;
  const requests = requestsAfter - requestsBefore - 1; // the second question counts itself
  if (requests <= 0) throw loadFailure(`no request came through ${contender.name} in ${Math.round(elapsed)} ms`);
  return { cpuPerUnit: cpuNanoseconds / 1000 / requests, unitsPerSecond: (requests * 1000) / elapsed };
}

function wrkArguments(target: Endpoint, plan: WrkPlan, seconds: number): readonly string[] {
  const load = ['-t', '1', '-c', String(plan.connections), '-d', `${seconds}s`, '--timeout', '10s'];
  const header = plan.reconnect ? ['-H', 'Connection: close'] : [];
  return [...load, ...header, `http://${hostPort(target)}${plan.path}`];
}

/** @throws PosternError ERR_BENCH_LOAD where wrk saw any error: a proxy that drops connections must not look fast. */
export function checkWrk(output: string, name: string): void {
  const errors = /^\s*Socket errors: (.*)$/m.exec(output)?.[1];
  if (errors !== undefined) throw loadFailure(`wrk had socket errors through ${name}: ${errors}`);
  const status = /^\s*Non-2xx or 3xx responses: (\d+)$/m.exec(output)?.[1];
  if (status !== undefined) throw loadFailure(`wrk got ${status} answers other than 200 through ${name}`);
  if (!/^\s*\d+ requests in /m.test(output)) throw loadFailure(`wrk said nothing of its requests through ${name}`);
}

const BULK_TIMEOUT_MS = 60_000;

/** Downloads of 100 MB each by one curl: `connections` at a time, `each` one after the other on every connection. */
export async function measureBulk(
  bench: Workbench,
  contender: Contender,
  plan: { readonly connections: number; readonly each: number },
): Promise<Throughput> {
  const downloads = plan.connections * plan.each;
  const parallel =
    plan.connections === 1 ? [] : ['--parallel', '--parallel-immediate', '--parallel-max', String(plan.connections)];
  const url = `http://${hostPort(contender.clientAddress)}${BULK_PATH}`;
  const meter = startCpuMeter(contender.pids);
  const started = performance.now();
  const output = await bench.processes.run(
    {
      name: 'curl',
      command: bench.tools.curl,
      args: [
        ...['--silent', '--show-error', '--write-out', '%{http_code} %{size_download}\n', ...parallel],
        ...Array.from({ length: downloads }, () => ['--output', '/dev/null', url]).flat(),
      ],
      core: bench.cores.load,
      stderr: bench.path('curl.stderr'),
    },
    BULK_TIMEOUT_MS,
  );
  const cpuNanoseconds = meter.stop();
  const elapsed = performance.now() - started;
  const complete = output.split('\n').filter((line) => line === `200 ${BULK_BYTES}`).length;
  if (complete !== downloads) {
    throw loadFailure(`${complete} of ${downloads} downloads through ${contender.name} were complete`);
  }
  const gigabytes = (downloads * BULK_BYTES) / 1e9;
  return { cpuPerUnit: cpuNanoseconds / 1000 / gigabytes, unitsPerSecond: (gigabytes * 1000) / elapsed };
}

/** A measurement that would mean nothing. */
export function loadFailure(what: string): PosternError {
  return new PosternError('ERR_BENCH_LOAD', `${what}: this measurement would mean nothing`);
}
