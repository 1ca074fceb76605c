import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BalancedEndpoint } from '../../../proxy/protocol/balancer.ts';
import { HttpBalancer } from '../../../proxy/protocol/http-balancer.ts';
import { BASE_EJECTION_MS, CONSECUTIVE_FAILURES } from '../../../proxy/protocol/outlier.ts';

/** Deterministic, well-spread numbers in [0, 1) (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const listOf = (names: readonly string[]): { name: string; target: string }[] =>
  names.map((name) => ({ name, target: `${name}:80` }));

function balancerOf(...names: string[]): HttpBalancer<string> {
  const balancer = new HttpBalancer<string>(seeded(1));
  balancer.update(listOf(names), 0);
  return balancer;
}

type Picked = BalancedEndpoint<string>;

/** Picks and releases `count` times; how often each was picked. */
function spread(balancer: HttpBalancer<string>, count: number, now: number, avoid: Picked | null = null) {
  const picks: Record<string, number> = {};
  for (let i = 0; i < count; i++) {
    const picked = balancer.pick(now, avoid);
    if (picked === null) continue;
    picks[picked.name] = (picks[picked.name] ?? 0) + 1;
    balancer.release(picked);
  }
  return picks;
}

function pickNamed(balancer: HttpBalancer<string>, name: string, now: number): Picked {
  for (let i = 0; i < 1000; i++) {
    const picked = balancer.pick(now);
    if (picked?.name === name) return picked;
    if (picked !== null) balancer.release(picked);
  }
  throw new Error(`${name} is never picked`);
}

/** Requests to `name` that fail one after another; whether the last one had it ejected. */
function fail(balancer: HttpBalancer<string>, name: string, now: number, times = CONSECUTIVE_FAILURES): boolean {
  const picked = pickNamed(balancer, name, now);
  let ejected = false;
  for (let i = 0; i < times; i++) ejected = balancer.failed(picked, now);
  balancer.release(picked);
  return ejected;
}

function answer(balancer: HttpBalancer<string>, name: string, rttMs: number, now: number): void {
  const picked = pickNamed(balancer, name, now);
  balancer.answered(picked, rttMs, now);
  balancer.succeeded(picked);
  balancer.release(picked);
}

describe('choosing', () => {
  test('no endpoints: none', () => {
    expect(balancerOf().pick(0)).toBeNull();
  });

  test('endpoints that answer alike get alike', () => {
    const picks = spread(balancerOf('a', 'b', 'c', 'd'), 4000, 0);
    for (const name of ['a', 'b', 'c', 'd']) {
      expect(picks[name]).toBeGreaterThan(850);
      expect(picks[name]).toBeLessThan(1150);
    }
  });

  test('of two the one that answers sooner is chosen', () => {
    const balancer = balancerOf('slow', 'fast');
    answer(balancer, 'slow', 400, 0);
    expect(spread(balancer, 100, 1)).toEqual({ fast: 100 });
  });

  test('one that is twice as fast gets a second request before the other gets a first', () => {
    const balancer = balancerOf('slow', 'fast');
    answer(balancer, 'slow', 100, 0);
    answer(balancer, 'fast', 45, 0);
    const held = [balancer.pick(0), balancer.pick(0), balancer.pick(0)];
    expect(held.map((picked) => picked?.name)).toEqual(['fast', 'fast', 'slow']);
  });

  test('one that was slow long ago is tried again', () => {
    const balancer = balancerOf('slow', 'fast');
    answer(balancer, 'slow', 400, 0);
    for (let now = 1_000; now < 60_000; now += 1_000) {
      const picked = balancer.pick(now);
      if (picked === null) throw new Error('none');
      if (picked.name === 'slow') return;
      balancer.answered(picked, 30, now);
      balancer.release(picked);
    }
    throw new Error('it is never tried again');
  });

  test('the one to avoid is chosen only where there is no other', () => {
    const balancer = balancerOf('a', 'b', 'c');
    const avoid = pickNamed(balancer, 'a', 0);
    expect(Object.keys(spread(balancer, 300, 0, avoid)).sort()).toEqual(['b', 'c']);
    balancer.update(listOf(['a']), 0);
    expect(spread(balancer, 3, 0, avoid)).toEqual({ a: 3 });
  });

  test('of two the other than the one to avoid is chosen even where it is slower', () => {
    const balancer = balancerOf('slow', 'fast');
    answer(balancer, 'slow', 400, 0);
    const avoid = pickNamed(balancer, 'fast', 0);
    expect(spread(balancer, 20, 0, avoid)).toEqual({ slow: 20 });
  });
});

describe('outliers', () => {
  test('five failures running eject one, and it comes back after 30 s', () => {
    const balancer = balancerOf('a', 'b', 'c');
    expect(fail(balancer, 'a', 0, CONSECUTIVE_FAILURES - 1)).toBe(false);
    expect(fail(balancer, 'a', 0, 1)).toBe(true);
    expect(spread(balancer, 300, BASE_EJECTION_MS - 1).a).toBeUndefined();
    expect(spread(balancer, 300, BASE_EJECTION_MS).a).toBeGreaterThan(50);
  });

  test('an ejected one is chosen rather than the one to avoid', () => {
    const balancer = balancerOf('a', 'b');
    for (let i = 0; i < CONSECUTIVE_FAILURES; i++) balancer.unreachable('a', 0);
    expect(spread(balancer, 3, 0)).toEqual({ b: 3 });
    expect(spread(balancer, 3, 0, pickNamed(balancer, 'b', 0))).toEqual({ a: 3 });
  });

  test('a success between them lets one stay', () => {
    const balancer = balancerOf('a', 'b', 'c');
    fail(balancer, 'a', 0, CONSECUTIVE_FAILURES - 1);
    answer(balancer, 'a', 30, 0);
    expect(fail(balancer, 'a', 0, CONSECUTIVE_FAILURES - 1)).toBe(false);
  });

  test.each([
    [1, 0],
    [2, 1],
    [3, 1],
    [4, 2],
    [5, 2],
  ])('of %i at most %i are ejected', (count, most) => {
    const names = Array.from({ length: count }, (_, i) => `e${i}`);
    const balancer = balancerOf(...names);
    for (const name of names) {
      try {
        fail(balancer, name, 0);
      } catch {
        // Ejected, so it is not picked.
      }
    }
    expect(balancer.ejected).toBe(most);
    expect(balancer.pick(0)).not.toBeNull();
  });

  test('a shorter list brings back whoever is due first', () => {
    const balancer = balancerOf('a', 'b', 'c', 'd');
    fail(balancer, 'a', 0);
    fail(balancer, 'b', 10);
    balancer.update(listOf(['a', 'b', 'c']), 20);
    expect(balancer.ejected).toBe(1);
    expect(Object.keys(spread(balancer, 300, 20)).sort()).toEqual(['a', 'c']);
  });

  test('a list that is sent again changes nothing for those that stay', () => {
    const balancer = balancerOf('a', 'b', 'c');
    fail(balancer, 'a', 0);
    balancer.update(listOf(['c', 'b', 'a', 'd']), 1);
    expect(spread(balancer, 300, 1).a).toBeUndefined();
  });

  test('one that cannot be connected is avoided at once and ejected after five times', () => {
    const balancer = balancerOf('a', 'b');
    expect(balancer.unreachable('a', 0)).toBe(false);
    expect(spread(balancer, 50, 0)).toEqual({ b: 50 });
    for (let i = 0; i < 3; i++) balancer.unreachable('a', 0);
    expect(balancer.unreachable('a', 0)).toBe(true);
    expect(balancer.unreachable('nobody', 0)).toBe(false);
  });
});

describe('whatever happens', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  const step = fc.oneof(
    fc.record({ kind: fc.constant('pick' as const) }),
    fc.record({ kind: fc.constantFrom('ok' as const, 'fail' as const), which: fc.nat(20), rtt: fc.nat(5_000) }),
    fc.record({ kind: fc.constant('unreachable' as const), name: fc.constantFrom(...names) }),
    fc.record({ kind: fc.constant('update' as const), names: fc.subarray(names) }),
    fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(40_000) }),
  );

  test('never more than half are ejected, a pick is of the list, and there is one wherever there is an endpoint', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer(), (steps, seed) => {
        const balancer = new HttpBalancer<string>(seeded(seed));
        let listed: readonly string[] = [];
        let now = 0;
        const held: Picked[] = [];
        for (const one of steps) {
          if (one.kind === 'wait') now += one.ms;
          else if (one.kind === 'update') {
            listed = one.names;
            balancer.update(listOf(listed), now);
          } else if (one.kind === 'unreachable') balancer.unreachable(one.name, now);
          else if (one.kind === 'pick') {
            const picked = balancer.pick(now, held[0] ?? null);
            expect(picked === null).toBe(listed.length === 0);
            if (picked === null) continue;
            expect(listed).toContain(picked.name);
            held.push(picked);
          } else {
            const [picked] = held.splice(one.which % Math.max(1, held.length), 1);
            if (picked === undefined) continue;
            if (one.kind === 'ok') {
              balancer.answered(picked, one.rtt, now);
              balancer.succeeded(picked);
            } else for (let i = 0; i < CONSECUTIVE_FAILURES; i++) balancer.failed(picked, now);
            balancer.release(picked);
          }
          expect(balancer.size).toBe(listed.length);
          expect(balancer.ejected).toBeLessThanOrEqual(listed.length >> 1);
        }
        for (const picked of held) balancer.release(picked);
        expect(held.every(({ active }) => active === 0)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});
