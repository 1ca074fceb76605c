import { describe } from 'vitest';
import { availability } from '../../demo/network.ts';

const available = availability();

function choose(): typeof describe | typeof describe.skip {
  if (available.kind !== 'none') return describe;
  // A check that quietly checks nothing is worse than a red one.
  const what = 'tests in network namespaces';
  if (process.env.CI === 'true') throw new Error(`CI=true, but ${what} cannot run: ${available.reason}`);
  process.stderr.write(`\n*** SKIPPED: ${what}: ${available.reason}\n\n`);
  return describe.skip;
}

/** `describe` for tests in real network namespaces; skipped, and said so, where there are none. Never skipped where CI=true. */
export const networkNamespaceTests = choose();

/** Ways of making namespaces that this machine offers: a test that runs over them covers root and rootless operation. */
export const isolations = available.kind === 'root' ? (['root', 'userns'] as const) : (['userns'] as const);
