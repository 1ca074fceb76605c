import { setTimeout as sleep } from 'node:timers/promises';

export interface EventuallyOptions {
  /** What is waited for, for the message when it does not come. */
  readonly what: string;
  /** Default a minute: it ends what hangs, and machines that run tests are busy. */
  readonly timeoutMs?: number;
  readonly everyMs?: number;
}

/** Calls `check` until it neither throws nor answers false, null or undefined; its answer. Throws with the last reason when the time is over. */
export async function eventually<T>(
  check: () => T | Promise<T>,
  { what, timeoutMs = 60_000, everyMs = 25 }: EventuallyOptions,
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown = 'it never held';
  for (;;) {
    try {
      const answer = await check();
      if (answer !== false && answer !== null && answer !== undefined) {
        return answer as Exclude<T, false | null | undefined>;
      }
    } catch (thrown) {
      last = thrown;
    }
    if (Date.now() >= deadline) throw new Error(`waited ${timeoutMs} ms for: ${what}`, { cause: last });
    await sleep(everyMs);
  }
}

/** Rejects with `what` where `promise` takes longer. */
export async function within<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  const over = new AbortController();
  const late = sleep(timeoutMs, null, { signal: over.signal }).then(
    () => {
      throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    },
    // The promise came first: nobody looks at this any more.
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}
