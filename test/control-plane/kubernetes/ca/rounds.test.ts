import { expect, it, onTestFinished } from 'vitest';
import { Rounds } from '../../../../control-plane/kubernetes/ca/rounds.ts';
import { eventually } from '../../../support/eventually.ts';

function setUp(round: () => Promise<void>, everyMs = 3_600_000) {
  const errors: unknown[] = [];
  const rounds = new Rounds({ round, everyMs, onError: (error) => errors.push(error) });
  onTestFinished(() => rounds.stop());
  return { rounds, errors };
}

it('runs one thing at a time: rounds, and work that must not run beside them', async () => {
  let running = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    running += 1;
    most = Math.max(most, running);
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
  };
  const { rounds } = setUp(work);
  rounds.ring();
  const failing = rounds.exclusive(async () => {
    await work();
    throw new Error('failed');
  });
  rounds.ring();
  await expect(failing).rejects.toThrow('failed');
  await rounds.exclusive(work);
  expect(most).toBe(1);
});

it('meets requests that come before a round has begun with one round, and those that come during it with another', async () => {
  let count = 0;
  const { rounds } = setUp(async () => {
    count += 1;
    if (count === 1) rounds.ring();
  });
  for (let index = 0; index < 5; index++) rounds.ring();
  await rounds.exclusive(async () => {});
  await rounds.exclusive(async () => {});
  expect(count).toBe(2);
});

it('goes on in time after a round that failed, and ends when it is stopped', async () => {
  let count = 0;
  const { rounds, errors } = setUp(async () => {
    count += 1;
    throw new Error('failed');
  }, 1);
  rounds.start();
  await eventually(() => count >= 3, { what: 'three rounds' });
  expect(errors.length).toBeGreaterThanOrEqual(2);
  rounds.stop();
  const before = count;
  rounds.ring();
  await rounds.exclusive(async () => {});
  expect(count).toBeLessThanOrEqual(before + 1);
});
