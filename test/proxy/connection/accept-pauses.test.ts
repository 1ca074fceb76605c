import { expect, test } from 'vitest';
import { acceptPauses } from '../../../proxy/connection/accept-pauses.ts';
import type { DataPlane } from '../../../proxy/connection/data-plane.ts';

test('every pause is counted; the log hears of the first, of another reason, and of one that lasts', () => {
  const loop = { now: 1_000 };
  const lines: string[] = [];
  let counted = 0;
  const paused = acceptPauses(
    {
      loop,
      metrics: { acceptPaused: () => counted++ },
      log: (level: string, message: string, { reason }: { reason: string }) =>
        lines.push(`${level} ${message}: ${reason}`),
    } as unknown as DataPlane,
    'tunnels',
  );
  for (let i = 0; i < 50; i++) {
    paused('limits.maxConnections');
    loop.now += 100;
  }
  expect(lines).toEqual(['warn accepting tunnels is paused: limits.maxConnections']);
  paused('EMFILE');
  paused('EMFILE');
  expect(lines).toHaveLength(2);
  loop.now += 10_000;
  paused('EMFILE');
  expect(lines).toHaveLength(3);
  expect(counted).toBe(53);
});
