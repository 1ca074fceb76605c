import { readFileSync } from 'node:fs';
import { EXIT, PosternError } from '../../mesh/errors.ts';

/** Proxies share one core, the load and everything else the other: a proxy's figures must not depend on who else runs. */
export interface Cores {
  readonly proxies: number;
  readonly load: number;
}

/** Reads a list like `0-3,8` (cpuset(7), "List format"). */
export function parseCpuList(list: string): readonly number[] {
  return list
    .trim()
    .split(',')
    .flatMap((range) => {
      const [first = Number.NaN, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** @throws PosternError ERR_BENCH_CORES (69) where this process may use fewer than two cores. */
export function chooseCores(status = readFileSync('/proc/self/status', 'utf8')): Cores {
  const allowed = parseCpuList(/^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '');
  const [proxies, load] = allowed;
  if (proxies === undefined || load === undefined) {
    throw new PosternError(
      'ERR_BENCH_CORES',
      'the benchmark needs two cores, one for the proxies and one for the load; this process may use only one: run it on a larger machine or widen its cpuset',
      { exitCode: EXIT.unavailable },
    );
  }
  return { proxies, load };
}
