import { watch } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { outcomeOf, succeeded } from './app-client.ts';
import type { DemoDirectory } from './directory.ts';
import type { Mesh } from './mesh.ts';
import { clockTime, type Terminal } from './terminal.ts';
import { SAMPLE_PATHS, WORKLOAD_NAMES, type WorkloadName } from './workloads.ts';

/** After a save the calls are tried again and again for a while: the edit has to reach the sidecars first. Milliseconds. */
const WATCH_FOR_MS = 2500;
const EVERY_MS = 250;

interface Pair {
  readonly from: WorkloadName;
  readonly to: WorkloadName;
}

const PAIRS: readonly Pair[] = WORKLOAD_NAMES.flatMap((from) =>
  WORKLOAD_NAMES.filter((to) => to !== from).map((to) => ({ from, to })),
);
const keyOf = ({ from, to }: Pair): string => `${from} → ${to}`;

/** Follows the folder of manifests: after each save it says which calls the user's edit has allowed or denied. Ends with `signal`. */
export async function watchManifests(
  mesh: Mesh,
  directory: DemoDirectory,
  out: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const allowed = await tryAll(mesh);
  showMatrix(out, allowed);
  mesh.onManifestProblem((problem) => out.line(`  ${timestamp(out)}  ${out.style('yellow', problem)}`));
  let changedAt = 0;
  let wake = Promise.withResolvers<void>();
  const watcher = watch(directory.manifests, (_event, file) => {
    if (file === null || file.startsWith('.') || file.endsWith('~')) return;
    changedAt = performance.now();
    wake.resolve();
  });
  const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  try {
    while (!signal.aborted) {
      await Promise.race([wake.promise, aborted]);
      wake = Promise.withResolvers<void>();
      while (!signal.aborted && performance.now() - changedAt < WATCH_FOR_MS) {
        await showChanges(mesh, out, allowed);
        await Promise.race([sleep(EVERY_MS), aborted]);
      }
    }
  } finally {
    watcher.close();
  }
}

const timestamp = (out: Terminal): string => out.style('dim', clockTime(new Date()));

/** Which calls go through now. */
async function tryAll(mesh: Mesh): Promise<Map<string, boolean>> {
  const results = await Promise.all(PAIRS.map((pair) => tryPair(mesh, pair)));
  return new Map(PAIRS.map((pair, i) => [keyOf(pair), results[i]?.allowed ?? false]));
}

async function tryPair(
  mesh: Mesh,
  { from, to }: Pair,
): Promise<{ readonly allowed: boolean; readonly outcome: string }> {
  const result = await mesh.workloads[from].app.call(mesh.site.target(from, to), { path: SAMPLE_PATHS[to] });
  return { allowed: succeeded(result), outcome: outcomeOf(result) };
}

async function showChanges(mesh: Mesh, out: Terminal, allowed: Map<string, boolean>): Promise<void> {
  const results = await Promise.all(PAIRS.map((pair) => tryPair(mesh, pair)));
  for (const [i, pair] of PAIRS.entries()) {
    const key = keyOf(pair);
    const result = results[i];
    if (result === undefined || allowed.get(key) === result.allowed) continue;
    allowed.set(key, result.allowed);
    const verdict = result.allowed ? out.style('green', 'now allowed') : out.style('red', 'now denied ');
    out.line(`  ${timestamp(out)}  ${key.padEnd(22)}${verdict}  ${result.outcome}`);
  }
}

function showMatrix(out: Terminal, allowed: ReadonlyMap<string, boolean>): void {
  for (const from of WORKLOAD_NAMES) {
    const cells = WORKLOAD_NAMES.filter((to) => to !== from).map((to) => {
      const mark = allowed.get(keyOf({ from, to })) === true ? out.style('green', '✓') : out.style('red', '✗');
      return `${mark} ${to.padEnd(10)}`;
    });
    out.detail(`${from.padEnd(10)}→  ${cells.join('')}`);
  }
}
