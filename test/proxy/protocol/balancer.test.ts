import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Balancer } from '../../../proxy/protocol/balancer.ts';

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

const endpoints = (...names: string[]): { name: string; target: string }[] =>
  names.map((name) => ({ name, target: `${name}:80` }));

function balancerOf(...names: string[]): Balancer<string> {
  const balancer = new Balancer<string>(seeded(1));
  balancer.update(endpoints(...names));
  return balancer;
}

/** Picks and releases `count` times; how often each was picked. */
function spread(balancer: Balancer<string>, count: number, now: number): Record<string, number> {
  const picks: Record<string, number> = {};
  for (let i = 0; i < count; i++) {
    const picked = balancer.pick(now);
    if (picked === null) continue;
    picks[picked.name] = (picks[picked.name] ?? 0) + 1;
    balancer.release(picked);
  }
  return picks;
}

function pickNamed(
  balancer: Balancer<string>,
  name: string,
  now: number,
): NonNullable<ReturnType<Balancer<string>['pick']>> {
  for (let i = 0; i < 1000; i++) {
    const picked = balancer.pick(now);
    if (picked?.name === name) return picked;
    if (picked !== null) balancer.release(picked);
  }
  throw new Error(`${name} is never picked`);
}

/** Makes one connection to `name` fail. */
function fail(balancer: Balancer<string>, name: string, now: number): void {
  const picked = pickNamed(balancer, name, now);
  balancer.failed(picked, now);
  balancer.release(picked);
}

describe('choosing', () => {
  test('no endpoints: none', () => {
    expect(balancerOf().pick(0)).toBeNull();
  });

  test('equally busy endpoints get equal shares', () => {
    const picks = spread(balancerOf('a', 'b', 'c', 'd'), 4000, 0);
    for (const name of ['a', 'b', 'c', 'd']) expect(picks[name]).toBeGreaterThan(800);
  });

  test('held connections spread almost evenly, as power of two choices does', () => {
    const balancer = balancerOf('a', 'b', 'c', 'd', 'e');
    const counts = new Map<string, number>();
    for (let i = 0; i < 500; i++) {
      const picked = balancer.pick(0);
      if (picked !== null) counts.set(picked.name, picked.active);
    }
    expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThan(15);
  });

  test('of two endpoints the busier one is never chosen', () => {
    const balancer = balancerOf('a', 'b');
    pickNamed(balancer, 'a', 0);
    expect(spread(balancer, 100, 0)).toEqual({ b: 100 });
  });
});

describe('an endpoint that failed', () => {
  test('is skipped for a second, then tried by one connection only', () => {
    const balancer = balancerOf('a', 'b');
    fail(balancer, 'a', 0);
    expect(spread(balancer, 50, 999)).toEqual({ b: 50 });
    const probe = balancer.pick(1000);
    expect(probe?.name).toBe('a');
    expect(spread(balancer, 50, 1000)).toEqual({ b: 50 });
  });

  test('rests twice as long after every failed trial, a minute at most', () => {
    const balancer = balancerOf('a', 'b');
    let now = 0;
    fail(balancer, 'a', now);
    for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60, 60]) {
      expect(spread(balancer, 20, now + seconds * 1000 - 1)).toEqual({ b: 20 });
      now += seconds * 1000;
      const probe = balancer.pick(now);
      expect(probe?.name).toBe('a');
      if (probe === null) break;
      balancer.failed(probe, now);
      balancer.release(probe);
    }
  });

  test('is as good as new once a trial succeeded', () => {
    const balancer = balancerOf('a', 'b');
    fail(balancer, 'a', 0);
    const probe = pickNamed(balancer, 'a', 1000);
    balancer.succeeded(probe);
    balancer.release(probe);
    expect(spread(balancer, 100, 1000).a).toBeGreaterThan(20);
    fail(balancer, 'a', 1000);
    expect(balancer.pick(2000)?.name).toBe('a');
  });

  test('rests no longer for a hundred connections that fail with the first', () => {
    const balancer = balancerOf('a', 'b');
    const all = Array.from({ length: 100 }, () => balancer.pick(0)).filter((picked) => picked?.name === 'a');
    for (const picked of all) if (picked) balancer.failed(picked, 0);
    for (const picked of all) if (picked) balancer.release(picked);
    expect(balancer.pick(1000)?.name).toBe('a');
  });

  test('is tried again when the one that tried it went away without a result', () => {
    const balancer = balancerOf('a', 'b');
    fail(balancer, 'a', 0);
    const abandoned = pickNamed(balancer, 'a', 1000);
    balancer.release(abandoned);
    expect(spread(balancer, 20, 16_999)).toEqual({ b: 20 });
    expect(balancer.pick(17_000)?.name).toBe('a');
  });

  test('is chosen all the same where all have failed', () => {
    const balancer = balancerOf('a', 'b');
    fail(balancer, 'a', 0);
    fail(balancer, 'b', 0);
    expect(Object.keys(spread(balancer, 100, 10)).sort()).toEqual(['a', 'b']);
    const picked = pickNamed(balancer, 'a', 10);
    balancer.succeeded(picked);
    balancer.release(picked);
    expect(spread(balancer, 20, 10)).toEqual({ a: 20 });
  });
});

describe('a new list of endpoints', () => {
  test('keeps the active counts of names that stay, and takes their new targets', () => {
    const balancer = balancerOf('a', 'b');
    const held = pickNamed(balancer, 'a', 0);
    balancer.update([{ name: 'a', target: 'elsewhere:80' }, ...endpoints('c')]);
    expect(spread(balancer, 50, 0)).toEqual({ c: 50 });
    expect(held).toMatchObject({ target: 'elsewhere:80', active: 1 });
  });

  test('keeps the rest of a name that stays', () => {
    const balancer = balancerOf('a', 'b');
    fail(balancer, 'a', 0);
    balancer.update(endpoints('b', 'a'));
    expect(spread(balancer, 50, 500)).toEqual({ b: 50 });
  });

  test('keeps counting for a name that went and came back while connections lived', () => {
    const balancer = balancerOf('a', 'b');
    const held = pickNamed(balancer, 'a', 0);
    balancer.update(endpoints('b'));
    expect(spread(balancer, 10, 0)).toEqual({ b: 10 });
    balancer.update(endpoints('a', 'b'));
    expect(held.active).toBe(1);
    expect(spread(balancer, 50, 0)).toEqual({ b: 50 });
    balancer.release(held);
    expect(spread(balancer, 100, 0).a).toBeGreaterThan(20);
  });

  test('never leads to an endpoint that is not in it, whatever happened before; and there is a choice whenever there is an endpoint', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('update' as const), names: fc.subarray(['a', 'b', 'c', 'd', 'e', 'f']) }),
      fc.record({
        kind: fc.constantFrom('pick' as const, 'succeed' as const, 'fail' as const, 'release' as const),
        at: fc.nat(20),
      }),
      fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(20_000) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.integer(), (steps, seed) => {
        const balancer = new Balancer<string>(seeded(seed));
        const held: NonNullable<ReturnType<typeof balancer.pick>>[] = [];
        let names: string[] = [];
        let now = 0;
        for (const one of steps) {
          if (one.kind === 'update') {
            names = one.names;
            balancer.update(endpoints(...names));
          } else if (one.kind === 'wait') {
            now += one.ms;
          } else if (one.kind === 'pick') {
            const picked = balancer.pick(now);
            expect(picked === null).toBe(names.length === 0);
            if (picked === null) continue;
            expect(names).toContain(picked.name);
            held.push(picked);
          } else {
            const index = one.at % Math.max(held.length, 1);
            const picked = held[index];
            if (picked === undefined) continue;
            if (one.kind === 'succeed') balancer.succeeded(picked);
            else if (one.kind === 'fail') balancer.failed(picked, now);
            else balancer.release(...(held.splice(index, 1) as [typeof picked]));
          }
        }
        for (const picked of held) {
          expect(picked.active).toBe(held.filter((other) => other.name === picked.name).length);
        }
        expect(balancer.size).toBe(names.length);
      }),
      { numRuns: 300 },
    );
  });
});
