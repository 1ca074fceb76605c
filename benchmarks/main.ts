import { accessSync, constants, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import { Workbench } from './lib/workbench.ts';
import { measureL4 } from './suites/l4.ts';
import { FULL, QUICK } from './suites/l4-plan.ts';
import { formatL4, jsonL4, reportL4 } from './suites/l4-report.ts';

interface Options {
  readonly suite: 'l4';
  readonly json?: string;
  readonly rounds?: number;
  readonly quick: boolean;
}

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
const MAX_ROUNDS = 100;

function parseOptions(): Options {
  const program = new Command('bench')
    .description('Measures Postern against the proxies that it competes with, in one run on this machine')
    .addOption(new Option('--suite <name>', 'what to measure').choices(['l4']).default('l4'))
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

async function run(options: Options, signal: AbortSignal): Promise<void> {
  if (options.json !== undefined) assertWritable(options.json);
  const base = options.quick ? QUICK : FULL;
  // Who asks for a number of rounds gets them, however long they take.
  const plan = options.rounds === undefined ? base : { ...base, rounds: options.rounds, limitMs: Number.MAX_VALUE };
  const started = performance.now();
  const progress = (line: string): void => {
    const seconds = Math.round((performance.now() - started) / 1000);
    process.stderr.write(`${String(seconds).padStart(4)} s  ${line}\n`);
  };
  const bench = new Workbench(signal);
  try {
    const report = reportL4(await measureL4(bench, plan, progress));
    progress('done');
    process.stdout.write(`${formatL4(report)}\n`);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(jsonL4(report), null, 2)}\n`);
  } finally {
    await bench.dispose();
  }
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
