import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { STAGING_BYTES, StagingPool } from '../../../proxy/http2/staging.ts';

/** Private memory of this process in bytes. */
function privateBytes(): number {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8');
  return Number(/Private_Dirty:\s+(\d+) kB/.exec(rollup)?.[1] ?? 0) * 1024;
}

test('a pool gives the memory of a burst back, keeps what it has for the next one, and never makes a buffer anew', () => {
  const pool = new StagingPool();
  const burst = Array.from({ length: 64 }, () => pool.take());
  for (const buffer of burst) buffer.bytes.fill(1);
  const full = privateBytes();
  for (const buffer of burst) pool.give(buffer);
  pool.trim();
  // Since then, one at a time was enough.
  pool.give(pool.take());
  pool.trim();
  expect(full - privateBytes()).toBeGreaterThan(40 * STAGING_BYTES);
  const again = Array.from({ length: 64 }, () => pool.take());
  expect(new Set(again.map(({ address }) => address))).toEqual(new Set(burst.map(({ address }) => address)));
});

test('a pool in use keeps the memory of what is in use', () => {
  const pool = new StagingPool();
  for (let round = 0; round < 3; round++) {
    const used = Array.from({ length: 12 }, () => pool.take());
    for (const buffer of used) {
      if (round > 0) expect(buffer.bytes[100_000]).toBe(1);
      buffer.bytes[100_000] = 1;
    }
    for (const buffer of used) pool.give(buffer);
    pool.trim();
  }
});
