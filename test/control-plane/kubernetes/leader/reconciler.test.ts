import { pino } from 'pino';
import { expect, test, vi } from 'vitest';
import { Reconciler } from '../../../../control-plane/kubernetes/leader/reconciler.ts';

const log = pino({ level: 'silent' });

function recorder(fail: (key: string, attempt: number) => boolean = () => false) {
  const done: string[] = [];
  const attempts = new Map<string, number>();
  const reconciler = new Reconciler({
    what: 'testing',
    reconcile: async (key) => {
      const attempt = (attempts.get(key) ?? 0) + 1;
      attempts.set(key, attempt);
      if (fail(key, attempt)) throw new Error('no');
      done.push(key);
    },
    log,
  });
  return { reconciler, done, attempts };
}

test('nothing is written before the term, and everything that was asked for when it begins', async () => {
  const { reconciler, done } = recorder();
  reconciler.add('a');
  reconciler.add('b');
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(done).toEqual([]);
  reconciler.lead(new AbortController().signal);
  await vi.waitFor(() => expect(done.toSorted()).toEqual(['a', 'b']), { timeout: 60_000 });
});

test('what fails is tried again until it succeeds', async () => {
  const { reconciler, done, attempts } = recorder((_key, attempt) => attempt < 3);
  reconciler.lead(new AbortController().signal);
  reconciler.add('a');
  await vi.waitFor(() => expect(done).toEqual(['a']), { timeout: 60_000 });
  expect(attempts.get('a')).toBe(3);
});

test('the end of the term ends writes and retries; the next term takes them up', async () => {
  const first = new AbortController();
  let healthy = false;
  const { reconciler, done, attempts } = recorder(() => !healthy);
  reconciler.lead(first.signal);
  reconciler.add('a');
  await vi.waitFor(() => expect(attempts.get('a')).toBeGreaterThan(0), { timeout: 60_000 });
  first.abort();
  const tried = attempts.get('a');
  reconciler.add('b');
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  expect([attempts.get('a'), attempts.get('b')]).toEqual([tried, undefined]);
  healthy = true;
  reconciler.lead(new AbortController().signal);
  await vi.waitFor(() => expect(done.toSorted()).toEqual(['a', 'b']), { timeout: 60_000 });
});

test('a forgotten key is not tried again', async () => {
  const { reconciler, attempts } = recorder(() => true);
  reconciler.lead(new AbortController().signal);
  reconciler.add('a');
  await vi.waitFor(() => expect(attempts.get('a')).toBe(1), { timeout: 60_000 });
  reconciler.forget('a');
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  expect(attempts.get('a')).toBe(1);
});
