import { type Clock, pause } from './clock.ts';

export interface QuietOptions {
  readonly clock: Clock;
  /** Live connections; null where that cannot be said. */
  readonly load: () => Promise<{ readonly inbound: number; readonly outbound: number } | null>;
  readonly deadlineMs: number;
  /** Ends the wait. */
  readonly signal: AbortSignal;
}

const CHECK_MS = 250;
/** The application may only be between two connections. */
const QUIET_MS = 2_000;

/** Waits until no connection has been open for 2 s. Resolves to why it waits no longer; never rejects unless `load` does. */
export async function untilQuiet(options: QuietOptions): Promise<'quiet' | 'deadline' | 'aborted'> {
  const { clock, load, deadlineMs, signal } = options;
  const late = new AbortController();
  const cancel = clock.after(deadlineMs, () => late.abort());
  const over = AbortSignal.any([signal, late.signal]);
  try {
    for (let quietMs = 0; !over.aborted; ) {
      const open = await load();
      quietMs = open !== null && open.inbound + open.outbound === 0 ? quietMs + CHECK_MS : 0;
      // The first of those checks stands for a moment, not for the time before it.
      if (quietMs > QUIET_MS) return 'quiet';
      await pause(clock, CHECK_MS, over);
    }
    return signal.aborted ? 'aborted' : 'deadline';
  } finally {
    cancel();
  }
}
