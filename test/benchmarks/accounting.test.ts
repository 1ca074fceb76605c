import { describe, expect, test } from 'vitest';

import { chooseCores, parseCpuList } from '../../benchmarks/lib/cores.ts';
import {
  type CpuSnapshot,
  cpuBetween,
  parseSchedstat,
  parseStatTicks,
  startCpuMeter,
} from '../../benchmarks/lib/cpu.ts';
import { parseRssAnon, privateMemory } from '../../benchmarks/lib/memory.ts';

const STAT_TAIL = 'S 1 100 100 0 -1 4194560 900 0 0 0 250 31 0 0 20 0 7 0 12345 1000000 500';

const snapshot = (threads: { readonly [tid: number]: number }, ticks: number): CpuSnapshot => ({
  threads: new Map(Object.entries(threads).map(([tid, nanoseconds]) => [Number(tid), nanoseconds])),
  ticks,
});

describe('the CPU time of a process', () => {
  test.each(['node', 'a b', 'x) R 1 2 (y', ''])('is read from stat behind the name %j', (name) => {
    expect(parseStatTicks(`4711 (${name}) ${STAT_TAIL}`)).toBe(281);
  });

  test('is read from schedstat in nanoseconds', () => {
    expect(parseSchedstat('1065112209 342601 125\n')).toBe(1_065_112_209);
  });

  test.each([
    { what: 'all threads added up', before: { 1: 100, 2: 50 }, after: { 1: 400, 2: 60 }, expected: 310 },
    {
      what: 'a thread that began in between counted in full',
      before: { 1: 100 },
      after: { 1: 100, 3: 70 },
      expected: 70,
    },
  ])('between two snapshots: $what', ({ before, after, expected }) => {
    expect(cpuBetween(snapshot(before, 0), snapshot(after, 0))).toBe(expected);
  });

  test('between two snapshots falls back to ticks where a thread ended and took its count along', () => {
    expect(cpuBetween(snapshot({ 1: 100, 2: 9e9 }, 1000), snapshot({ 1: 200 }, 1003))).toBe(30_000_000);
  });

  test('between two snapshots falls back to ticks where the kernel keeps no schedstat', () => {
    expect(cpuBetween(snapshot({}, 5), snapshot({}, 6))).toBe(10_000_000);
  });

  test('of this process grows while it works', () => {
    const meter = startCpuMeter([process.pid]);
    const end = performance.now() + 60;
    while (performance.now() < end);
    expect(meter.stop()).toBeGreaterThan(0);
  });
});

describe('private memory', () => {
  test('is RssAnon, given in KiB', () => {
    expect(parseRssAnon('VmRSS:\t  60000 kB\nRssAnon:\t   11000 kB\nRssFile:\t   49000 kB\n')).toBe(11_264_000);
  });

  test('is not guessed where the kernel does not tell', () => {
    expect(() => parseRssAnon('VmRSS:\t  60000 kB\n')).toThrow(/RssAnon/);
  });

  test('of this process can be read', () => {
    expect(privateMemory(process.pid)).toBeGreaterThan(1_000_000);
  });
});

describe('cores', () => {
  test.each([
    ['0', [0]],
    ['0-1', [0, 1]],
    ['2-4,8,10-11\n', [2, 3, 4, 8, 10, 11]],
  ])('the list %j means %j', (list, expected) => {
    expect(parseCpuList(list)).toEqual(expected);
  });

  test('are the first two that this process may use', () => {
    expect(chooseCores('Name:\tnode\nCpus_allowed_list:\t3,5-7\n')).toEqual({ proxies: 3, load: 5 });
  });

  test('must be two: with one the run is refused with exit code 69', () => {
    expect(() => chooseCores('Cpus_allowed_list:\t0\n')).toThrow(
      expect.objectContaining({ code: 'ERR_BENCH_CORES', exitCode: 69 }),
    );
  });
});
