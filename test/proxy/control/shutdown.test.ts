import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Shutdown } from '../../../proxy/control/shutdown.ts';
import { StopSignals } from '../../../proxy/control/stop-signals.ts';
import type { WorkerLoad } from '../../../proxy/worker/messages.ts';
import { FakeClock, settle } from './support/fake-clock.ts';
import { recordedLog } from './support/quiet-log.ts';

let clock: FakeClock;
let signals: StopSignals;
let done: string[];
let load: WorkerLoad | null;
let exitCode: number | null;

beforeEach(() => {
  clock = new FakeClock();
  signals = new StopSignals();
  done = [];
  load = { inbound: 0, outbound: 0 };
  exitCode = null;
});

afterEach(() => signals.close());

function make(keepOutbound: boolean, drainTimeoutMs = 30_000): Shutdown {
  const shutdown = new Shutdown({
    drainTimeoutMs,
    keepOutbound,
    signals,
    clock,
    log: recordedLog().log,
    supervisor: {
      drain: async (deadlineMs) => {
        done.push(`drain ${deadlineMs}`);
        return 0;
      },
      drainInbound: () => void done.push('drain inbound'),
      load: async () => load,
    },
  });
  const run = async (): Promise<void> => {
    await shutdown.wanted;
    exitCode = await shutdown.run(async () => void done.push('withdraw'));
  };
  void run();
  return shutdown;
}

describe('a sidecar that is asked to stop', () => {
  it('withdraws, then drains within the drain timeout', async () => {
    const shutdown = make(false);
    await settle();
    expect([done, shutdown.draining]).toEqual([[], 'nothing']);
    signals.requestDrain();
    await settle();
    expect(done).toEqual(['withdraw', 'drain 30000']);
    expect([exitCode, shutdown.draining]).toEqual([0, 'all']);
  });

  it('does so too where inbound has been drained before', async () => {
    const shutdown = make(false);
    shutdown.drainInbound();
    shutdown.drainInbound();
    expect([done, shutdown.draining]).toEqual([['drain inbound'], 'inbound']);
    signals.requestDrain();
    await settle();
    expect(done).toEqual(['drain inbound', 'withdraw', 'drain 30000']);
  });
});

describe('a sidecar that is asked to stop and keeps outbound', () => {
  it('drains inbound alone while connections are open, and all once there have been none for 2 s', async () => {
    const shutdown = make(true);
    load = { inbound: 0, outbound: 1 };
    signals.requestDrain();
    await clock.advance(10_000);
    expect([done, shutdown.draining]).toEqual([['drain inbound'], 'inbound']);
    load = { inbound: 0, outbound: 0 };
    await clock.advance(1_900);
    expect(done).toEqual(['drain inbound']);
    await clock.advance(600);
    expect(done).toEqual(['drain inbound', 'withdraw', 'drain 2000']);
    expect(exitCode).toBe(0);
  });

  it('begins to count anew with every connection that is seen', async () => {
    make(true);
    signals.requestDrain();
    for (let round = 0; round < 5; round += 1) {
      load = { inbound: 0, outbound: 0 };
      await clock.advance(1_500);
      load = { inbound: 1, outbound: 0 };
      await clock.advance(500);
    }
    expect(done).toEqual(['drain inbound']);
  });

  it('takes a data plane that does not answer for a busy one', async () => {
    make(true);
    load = null;
    signals.requestDrain();
    await clock.advance(29_000);
    expect(done).toEqual(['drain inbound']);
  });

  it('closes what is left when the drain timeout is over', async () => {
    make(true, 5_000);
    load = { inbound: 1, outbound: 1 };
    signals.requestDrain();
    await clock.advance(5_000);
    expect(done).toEqual(['drain inbound', 'withdraw', 'drain 0']);
    expect(exitCode).toBe(0);
  });

  it('goes when the application has ended', async () => {
    const shutdown = make(true);
    load = { inbound: 3, outbound: 3 };
    signals.requestDrain();
    await clock.advance(1_000);
    shutdown.applicationEnded();
    await settle();
    expect(done).toEqual(['drain inbound', 'withdraw', 'drain 2000']);
  });
});

describe('a sidecar whose application has ended', () => {
  it.each([true, false])('drains shortly and ends with 0 without being asked (keepOutbound: %j)', async (keep) => {
    const shutdown = make(keep);
    shutdown.applicationEnded();
    shutdown.applicationEnded();
    await settle();
    expect(done).toEqual(['withdraw', 'drain 2000']);
    expect(exitCode).toBe(0);
  });

  it('takes no longer than the drain timeout', async () => {
    make(false, 500).applicationEnded();
    await settle();
    expect(done).toEqual(['withdraw', 'drain 500']);
  });
});

describe('the signals of a sidecar that ends', () => {
  const listeners = () => process.listenerCount('SIGTERM');

  it('kill it no more by the first that comes, where it ends of its own accord', () => {
    signals.close();
    const armed = listeners();
    expect(armed).toBeGreaterThan(0);
    process.emit('SIGTERM', 'SIGTERM');
    expect(listeners()).toBeLessThan(armed);
    signals = new StopSignals();
  });

  it('do as always where one has come before', () => {
    process.emit('SIGTERM', 'SIGTERM');
    const before = listeners();
    signals.close();
    expect(listeners()).toBe(before - 1);
    signals = new StopSignals();
  });
});
