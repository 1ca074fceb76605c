import { expect, test } from 'vitest';
import { Settling } from '../../../proxy/control/settling.ts';
import { FakeClock } from './support/fake-clock.ts';

function create() {
  const clock = new FakeClock();
  let collected = 0;
  const settling = new Settling(clock, () => {
    collected += 1;
  });
  return { clock, settling, collected: () => collected };
}

test('what the start has left is collected a moment after the first push, and no push after it', async () => {
  const { clock, settling, collected } = create();
  settling.started();
  expect(collected()).toBe(0);
  await clock.advance(10_000);
  expect(collected()).toBe(1);
  settling.started();
  await clock.advance(10_000);
  expect(collected()).toBe(1);
});

test('nothing is collected in a sidecar that has been closed', async () => {
  const { clock, settling, collected } = create();
  settling.started();
  settling.close();
  await clock.advance(10_000);
  expect(collected()).toBe(0);
});
