/** Time as the control thread sees it; passed in, so that tests own it. */
export interface Clock {
  /** Unix time, milliseconds. */
  now(): number;
  /** Runs `action` once after `ms`; the returned function cancels it and may be called at any time, any number of times. */
  after(ms: number, action: () => void): () => void;
  /** From 0 to below 1. */
  random(): number;
}

/** setTimeout takes a signed 32-bit count of milliseconds and fires at once for more. */
const MAX_TIMEOUT_MS = 0x7fff_ffff;

export const systemClock: Clock = {
  now: Date.now,
  after(ms, action) {
    const timer = setTimeout(action, Math.min(Math.max(ms, 0), MAX_TIMEOUT_MS));
    return () => clearTimeout(timer);
  },
  random: Math.random,
};

/** Waits `ms`, or less if `signal` is aborted first; never rejects. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const finish = (): void => {
      cancel();
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const cancel = clock.after(ms, finish);
    signal.addEventListener('abort', finish);
  });
}
