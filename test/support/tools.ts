import { describe } from 'vitest';
import { locate } from '../../benchmarks/lib/tools.ts';
import type { TcpAddress } from './apps.ts';
import { type Finished, run } from './child.ts';

/**
 * `describe` for tests that need other people's programs; skipped, and said so, where some are missing. Never skipped where CI=true.
 * `npm test` installs them where it may: scripts/bootstrap.mjs.
 */
export function toolTests(...programs: readonly string[]): typeof describe | typeof describe.skip {
  const missing = programs.filter((program) => locate(program) === null);
  if (missing.length === 0) return describe;
  const what = `tests with ${programs.join(', ')}: not found: ${missing.join(', ')}`;
  // A check that quietly checks nothing is worse than a red one.
  if (process.env.CI === 'true') throw new Error(`CI=true, but cannot run ${what}`);
  process.stderr.write(`\n*** SKIPPED: ${what}; npm test installs them as root on Debian\n\n`);
  return describe.skip;
}

/** The same for programs that Debian does not have: where they are absent the tests are skipped, with CI=true as well. */
export function foreignToolTests(program: string): typeof describe | typeof describe.skip {
  if (locate(program) !== null) return describe;
  process.stderr.write(`\n*** SKIPPED: tests with ${program}: not found; nothing installs it\n\n`);
  return describe.skip;
}

export function pathOf(program: string): string {
  const path = locate(program);
  if (path === null) throw new Error(`${program} is not on this machine`);
  return path;
}

/** Runs a program to its end. @throws Error with what it wrote, where it ends with another code than 0. */
export async function runTool(program: string, ...args: readonly string[]): Promise<Finished> {
  const done = await run(pathOf(program), args, 60_000);
  if (done.code !== 0) throw new Error(`${program} ended with ${done.code}: ${done.stderr}\n${done.stdout}`);
  return done;
}

export function urlOf({ address, port }: TcpAddress, path = '/'): string {
  return `http://${address}:${port}${path}`;
}
