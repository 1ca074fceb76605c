import { accessSync, constants, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import type { Progress } from './lib/rounds.ts';
import { Workbench } from './lib/workbench.ts';
import { FULL_CLUSTER, measureCluster, QUICK_CLUSTER } from './suites/cluster.ts';
import { formatCluster, jsonCluster } from './suites/cluster-report.ts';
import { measureHttp } from './suites/http.ts';
import { FULL_HTTP, QUICK_HTTP } from './suites/http-plan.ts';
import { formatHttp, jsonHttp, reportHttp } from './suites/http-report.ts';
import { measureL4 } from './suites/l4.ts';
import { FULL, QUICK } from './suites/l4-plan.ts';
import { formatL4, jsonL4, reportL4 } from './suites/l4-report.ts';
import { FULL_POLICY, measurePolicy, QUICK_POLICY } from './suites/policy.ts';
import { formatPolicy, jsonPolicy, reportPolicy } from './suites/policy-report.ts';

/** What a suite has to say: for people and for programs. */
interface Findings {
  readonly text: string;
  readonly json: object;
}

type Suite = (options: Options, signal: AbortSignal, progress: Progress) => Promise<Findings>;

const SUITES: { readonly [name: string]: Suite } = {
  l4: (options, signal, progress) =>
    onWorkbench(signal, async (bench) => {
      const report = reportL4(await measureL4(bench, planOf(options, FULL, QUICK), progress));
      return { text: formatL4(report), json: jsonL4(report) };
    }),
  http: (options, signal, progress) =>
    onWorkbench(signal, async (bench) => {
      const report = reportHttp(await measureHttp(bench, planOf(options, FULL_HTTP, QUICK_HTTP), progress));
      return { text: formatHttp(report), json: jsonHttp(report) };
    }),
  policy: async (options, signal, progress) => {
    const plan = planOf(options, FULL_POLICY, QUICK_POLICY);
    const report = reportPolicy(await measurePolicy(plan, signal, progress));
    return { text: formatPolicy(report), json: jsonPolicy(report) };
  },
  cluster: (options, signal, progress) =>
    onWorkbench(signal, async (bench) => {
      const measured = await measureCluster(bench, planOf(options, FULL_CLUSTER, QUICK_CLUSTER), progress);
      return { text: formatCluster(measured), json: jsonCluster(measured) };
    }),
};

interface Options {
  readonly suite: string;
  readonly json?: string;
  readonly rounds?: number;
  readonly quick: boolean;
}

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
const MAX_ROUNDS = 100;

function parseOptions(): Options {
  const program = new Command('bench')
    .description('Measures Postern against the proxies that it competes with, in one run on this machine')
    .addOption(new Option('--suite <name>', 'what to measure').choices(Object.keys(SUITES)).default('l4'))
    .option('--json <file>', 'write the figures to this file too')
    .option(
      '--rounds <n>',
      `how often each workload is measured (${FULL.rounds}; --quick: ${QUICK.rounds})`,
      parseRounds,
    )
    .option('--quick', 'short rounds, for a look: two minutes instead of eight', false)
    .allowExcessArguments(false)
    .exitOverride();
  return program.parse().opts<Options>();
}

function parseRounds(text: string): number {
  const rounds = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (rounds < 1 || rounds > MAX_ROUNDS) throw new InvalidArgumentError(`a number from 1 to ${MAX_ROUNDS}.`);
  return rounds;
}

/** Before minutes of measuring, not after. */
function assertWritable(file: string): void {
  try {
    accessSync(dirname(resolve(file)), constants.W_OK);
  } catch (cause) {
    throw new PosternError('ERR_BENCH_OUTPUT', `cannot write ${file}: ${messageOf(cause)}; give --json another path`, {
      cause,
      exitCode: EXIT.cannotCreate,
    });
  }
}

async function onWorkbench(signal: AbortSignal, measure: (bench: Workbench) => Promise<Findings>): Promise<Findings> {
  const bench = new Workbench(signal);
  try {
    return await measure(bench);
  } finally {
    await bench.dispose();
  }
}

function planOf<P extends { readonly rounds: number; readonly limitMs: number }>(
  options: Options,
  full: P,
  quick: P,
): P {
  const base = options.quick ? quick : full;
  // Who asks for a number of rounds gets them, however long they take.
  return options.rounds === undefined ? base : { ...base, rounds: options.rounds, limitMs: Number.MAX_VALUE };
}

async function run(options: Options, signal: AbortSignal): Promise<void> {
  if (options.json !== undefined) assertWritable(options.json);
  const started = performance.now();
  const progress = (line: string): void => {
    const seconds = Math.round((performance.now() - started) / 1000);
    process.stderr.write(`${String(seconds).padStart(4)} s  ${line}\n`);
  };
  const suite = SUITES[options.suite];
  if (suite === undefined) throw new PosternError('ERR_BENCH_SUITE', `no suite ${options.suite}`);
  const { text, json } = await suite(options, signal, progress);
  progress('done');
  process.stdout.write(`${text}\n`);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(json, null, 2)}\n`);
}

async function main(): Promise<number> {
  const interrupted = new AbortController();
  for (const [signal, number] of Object.entries(SIGNALS)) {
    process.on(signal, () => {
      if (interrupted.signal.aborted) process.exit(128 + number); // a second one ends at once; the exit handler cleans up
      interrupted.abort(128 + number);
    });
  }
  try {
    await run(parseOptions(), interrupted.signal);
    return EXIT.ok;
  } catch (thrown) {
    if (interrupted.signal.aborted) return Number(interrupted.signal.reason);
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (!(thrown instanceof PosternError)) throw thrown;
    process.stderr.write(`bench: ${thrown.message}\n`);
    return thrown.exitCode;
  }
}

process.exitCode = await main();
