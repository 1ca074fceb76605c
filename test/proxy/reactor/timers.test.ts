import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Timer, TimerWheel } from '../../../proxy/reactor/timers.ts';

const TICK = 16;

type Step =
  | { readonly do: 'arm'; readonly timer: number; readonly delay: number }
  | { readonly do: 'cancel'; readonly timer: number }
  | { readonly do: 'pass'; readonly ms: number; readonly tell: boolean };

const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('arm' as const), timer: fc.nat(7), delay: fc.oneof(fc.nat(100), fc.nat(40_000)) }),
    fc.record({ do: fc.constant('cancel' as const), timer: fc.nat(7) }),
    fc.record({
      do: fc.constant('pass' as const),
      ms: fc.oneof(fc.nat(40), fc.nat(3_000), fc.nat(30_000)),
      tell: fc.boolean(),
    }),
  ),
  { maxLength: 80 },
);

describe('a timer', () => {
  test('fires once, never early, and as soon as the wheel is told of a time two ticks after its due', () => {
    fc.assert(
      fc.property(steps, (list: readonly Step[]) => {
        const wheel = new TimerWheel();
        let now = 5_000;
        const due: (number | null)[] = Array.from({ length: 8 }, () => null);
        const timers = due.map((_, i) => {
          return new Timer(() => {
            expect(due[i]).not.toBeNull();
            expect(now).toBeGreaterThanOrEqual(due[i] ?? Number.POSITIVE_INFINITY);
            due[i] = null;
          });
        });
        for (const step of list) {
          if (step.do === 'arm') {
            // What armed it may have slept long since the wheel was told of the time: the delay counts from now all the same.
            wheel.arm(timers[step.timer] as Timer, step.delay, now);
            due[step.timer] = now + step.delay;
          } else if (step.do === 'cancel') {
            wheel.cancel(timers[step.timer] as Timer);
            due[step.timer] = null;
          } else {
            now += step.ms;
            if (!step.tell) continue;
            wheel.advance(now);
            for (const [i, at] of due.entries()) {
              expect((timers[i] as Timer).armed).toBe(at !== null);
              if (at !== null) expect(at + 2 * TICK).toBeGreaterThan(now);
            }
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('lets the loop sleep to just before it is due, and an empty wheel as long as it likes', () => {
    fc.assert(
      fc.property(fc.nat(2_000), fc.nat(100_000), (delay, now) => {
        const wheel = new TimerWheel();
        wheel.advance(now);
        expect(wheel.sleepMs(now, 1_000)).toBe(1_000);
        let fired = false;
        wheel.arm(
          new Timer(() => {
            fired = true;
          }),
          delay,
          now,
        );
        let clock = now;
        let turns = 0;
        while (!fired && turns < 10) {
          clock += wheel.sleepMs(clock, 1_000);
          wheel.advance(clock);
          turns++;
        }
        // Not by waking at every tick.
        expect(fired).toBe(true);
        expect(clock).toBeGreaterThanOrEqual(now + delay);
        expect(clock).toBeLessThanOrEqual(now + delay + 3 * TICK);
        expect(turns).toBeLessThan(6);
      }),
    );
  });

  test('may arm and cancel others, and itself again, while it fires', () => {
    const wheel = new TimerWheel();
    const fired: string[] = [];
    const victim = new Timer(() => fired.push('victim'));
    const late = new Timer(() => fired.push('late'));
    let rounds = 0;
    const first: Timer = new Timer(() => {
      fired.push('first');
      wheel.cancel(victim);
      wheel.arm(late, 10, 100);
      if (++rounds < 3) wheel.arm(first, 10, 100);
    });
    wheel.arm(first, 10, 0);
    wheel.arm(victim, 10, 0);
    for (let now = 0; now <= 1_000; now += 16) wheel.advance(now);
    expect(fired.filter((name) => name === 'first').length).toBe(3);
    expect(fired).not.toContain('victim');
    expect(wheel.sleepMs(1_000, 777)).toBe(777);
  });

  test('that throws leaves the others to fire the next time', () => {
    const wheel = new TimerWheel();
    const fired: string[] = [];
    wheel.arm(
      new Timer(() => {
        throw new Error('a bug');
      }),
      10,
      0,
    );
    wheel.arm(new Timer(() => fired.push('other')), 10, 0);
    expect(() => wheel.advance(100)).toThrow('a bug');
    wheel.advance(200);
    expect(fired).toEqual(['other']);
  });
});
