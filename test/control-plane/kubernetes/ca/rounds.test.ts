import { expect, it, onTestFinished } from 'vitest';
import { Rounds } from '../../../../control-plane/kubernetes/ca/rounds.ts';
import { Complaints } from '../../../../control-plane/kubernetes/complaints.ts';
import { eventually } from '../../../support/eventually.ts';
import { memoryLog } from '../support.ts';
import { Bell } from './support.ts';

function setUp(round: () => Promise<void>, everyMs = 3_600_000) {
  const log = memoryLog();
  const bell = new Bell();
  const rounds = new Rounds({ round, everyMs, watches: [bell], complaints: new Complaints(log) });
  onTestFinished(() => rounds.stop());
  return { rounds, bell, log };
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

it('goes on in time after a round that failed, complains once and says when it is over; and ends when it is stopped', async () => {
  let count = 0;
  const { rounds, log } = setUp(async () => {
    count += 1;
    if (count < 3) throw new Error('it is away');
  }, 1);
  rounds.start();
  await eventually(() => log.lines.length >= 2, { what: 'a round that succeeded' });
  expect(log.lines).toEqual([
    { level: 'warn', text: 'the CA could not be confirmed by the API server: it is away' },
    { level: 'info', text: 'the API server confirms the CA again' },
  ]);
  rounds.stop();
  const before = count;
  rounds.ring();
  await rounds.exclusive(async () => {});
  expect(count).toBeLessThanOrEqual(before + 1);
});

it('hears of a change by a watch, until it is stopped', async () => {
  let count = 0;
  const { rounds, bell } = setUp(async () => {
    count += 1;
  });
  rounds.start();
  bell.ring();
  await rounds.exclusive(async () => {});
  expect(count).toBe(1);
  rounds.stop();
  bell.ring();
  await rounds.exclusive(async () => {});
  expect(count).toBe(1);
});
