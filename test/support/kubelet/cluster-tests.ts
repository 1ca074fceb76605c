import { describe } from 'vitest';
import { availability } from '../../../demo/network.ts';
import { thisMachine } from '../../../proxy/intercept/machine.ts';

/** What is missing for pods on this machine; null: nothing. */
function obstacle(): string | null {
  const { kind, reason } = availability();
  if (kind !== 'root') return `pods run as several users, which needs root (${reason})`;
  const missing = ['nft', 'chroot'].filter((tool) => thisMachine.locate(tool) === null);
  return missing.length === 0 ? null : `${missing.join(', ')} not found`;
}

function choose(): typeof describe | typeof describe.skip {
  const why = obstacle();
  if (why === null) return describe;
  // A check that quietly checks nothing is worse than a red one.
  const what = 'tests in a stand-in cluster with pods';
  if (process.env.CI === 'true') throw new Error(`CI=true, but ${what} cannot run: ${why}`);
  process.stderr.write(`\n*** SKIPPED: ${what}: ${why}\n\n`);
  return describe.skip;
}

/** `describe` for tests whose pods run; skipped, and said so, where they cannot. Never skipped where CI=true. */
export const clusterTests = choose();
