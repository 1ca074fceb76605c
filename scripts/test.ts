/**
 * `npm test`: type check, lint, then all tests; with arguments (`npm test -- test/policy`) vitest alone, which gets them.
 * The last line is always `N passed, N failed, N skipped`, for machines.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { countTests, type TestCounts } from './test-counts.ts';

const ROOT = dirname(import.meta.dirname);

interface Step {
  readonly name: string;
  readonly argv: readonly string[];
}

interface StepResult {
  readonly name: string;
  readonly code: number;
  readonly seconds: number;
  readonly output: string;
}

/** These are programs of node_modules: started by their files, since the launchers in .bin would take the machine's own Node. */
const nodeProgram = (path: string): readonly string[] => [process.execPath, join(ROOT, 'node_modules', path)];

const CHECKS: readonly Step[] = [
  { name: 'types', argv: [...nodeProgram('typescript/bin/tsc'), '-p', join(ROOT, 'tsconfig.json')] },
  { name: 'lint', argv: [...nodeProgram('@biomejs/biome/bin/biome'), 'ci', '--error-on-warnings', ROOT] },
];

const running = new Set<ReturnType<typeof spawn>>();
let interrupted: NodeJS.Signals | null = null;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = signal;
    for (const child of running) child.kill(signal);
  });
}

/** `shown`: the output goes straight to the terminal; otherwise it is kept. */
async function runStep(step: Step, shown: boolean): Promise<StepResult> {
  const started = performance.now();
  const [program = '', ...args] = step.argv;
  const child = spawn(program, args, {
    cwd: ROOT,
    stdio: ['ignore', shown ? 'inherit' : 'pipe', shown ? 'inherit' : 'pipe'],
  });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(status ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
  running.delete(child);
  return { name: step.name, code, seconds: (performance.now() - started) / 1000, output: output.trim() };
}

async function runChecks(): Promise<readonly StepResult[]> {
  const results = await Promise.all(CHECKS.map((step) => runStep(step, false)));
  for (const result of results) {
    console.log(`${result.name.padEnd(6)} ${result.code === 0 ? 'ok' : 'FAILED'} (${result.seconds.toFixed(1)} s)`);
    if (result.code !== 0) console.log(`${result.output}\n`);
  }
  return results;
}

async function runTests(
  args: readonly string[],
): Promise<{ readonly result: StepResult; readonly counts: TestCounts }> {
  const directory = mkdtempSync(join(tmpdir(), 'postern-test-'));
  const report = join(directory, 'report.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  try {
    const argv = [...nodeProgram('vitest/vitest.mjs'), 'run', ...reporters, ...args];
    const result = await runStep({ name: 'tests', argv }, true);
    let text: string | null = null;
    try {
      text = readFileSync(report, 'utf8');
    } catch {
      // Vitest ended before it could write: countTests says so by a failure.
    }
    return { result, counts: countTests(text, result.code) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const args = process.argv.slice(2);
const checks = args.length === 0 ? await runChecks() : [];
const failedChecks = checks.filter((check) => check.code !== 0).map((check) => check.name);

if (interrupted === null) {
  const { result, counts } = await runTests(args);
  if (failedChecks.length > 0) console.log(`\nFAILED before the tests, see above: ${failedChecks.join(', ')}`);
  console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  process.exitCode = result.code !== 0 ? result.code : failedChecks.length > 0 ? 1 : 0;
}
if (interrupted !== null) process.exitCode = 128 + constants.signals[interrupted as NodeJS.Signals];
