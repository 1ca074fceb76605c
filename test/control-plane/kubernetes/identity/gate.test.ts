import { expect, it } from 'vitest';
import { Gate, GateFull } from '../../../../control-plane/kubernetes/identity/gate.ts';

it('lets so many run at a time, the others in the order in which they came', async () => {
  const gate = new Gate({ concurrent: 2, waiting: 10, waitMs: 10_000 });
  const order: number[] = [];
  let running = 0;
  let most = 0;
  const work = (index: number) =>
    gate.run(async () => {
      order.push(index);
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      if (index === 1) throw new Error('failed');
      return index;
    });
  const results = await Promise.allSettled([0, 1, 2, 3, 4].map(work));
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled']);
  expect(order).toEqual([0, 1, 2, 3, 4]);
  expect(most).toBe(2);
  expect(await work(5)).toBe(5);
});

it('refuses at once what is too much, and after a while what has not had its turn', async () => {
  const gate = new Gate({ concurrent: 1, waiting: 1, waitMs: 5 });
  const first = Promise.withResolvers<void>();
  const running = gate.run(() => first.promise);
  const waiting = gate.run(async () => {});
  await expect(gate.run(async () => {})).rejects.toBeInstanceOf(GateFull);
  await expect(waiting).rejects.toBeInstanceOf(GateFull);
  first.resolve();
  await running;
  expect(await gate.run(async () => 'again')).toBe('again');
});
