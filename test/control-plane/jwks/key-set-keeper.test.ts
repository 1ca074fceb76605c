import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { KeySetFile } from '../../../control-plane/jwks/key-set-file.ts';
import { KeySetKeeper, type KeySetKeeperOptions } from '../../../control-plane/jwks/key-set-keeper.ts';
import type { WantedSource } from '../../../control-plane/jwks/wanted-sources.ts';
import { ControlPlaneMetrics } from '../../../control-plane/metrics.ts';

const DAY = 24 * 3600_000;
const MINUTE = 60_000;
const RHYTHM = { refreshMs: 20 * MINUTE, firstRetryMs: 1_000, retryMs: MINUTE, keepMs: 7 * DAY };
const SET = (kid: string): string => JSON.stringify({ keys: [{ kid }] });

const wanted = (name: string, ...namespaces: readonly string[]): WantedSource => ({
  source: { kind: 'uri', name },
  timeoutMs: 1,
  namespaces: namespaces.length === 0 ? ['shop'] : namespaces,
});
const wants = (...names: readonly string[]) => new Map(names.map((name) => [name, wanted(name)]));

let directory: string;
/** What the issuer of a name answers: a text, or a failure. */
let answers: Map<string, string | Error>;
let fetched: string[];
let changes: number;
let complaints: string[];
let metrics: ControlPlaneMetrics;
let keepers: KeySetKeeper[];

beforeEach(() => {
  vi.useFakeTimers();
  directory = mkdtempSync(join(tmpdir(), 'postern-jwks-'));
  answers = new Map();
  fetched = [];
  changes = 0;
  complaints = [];
  metrics = new ControlPlaneMetrics();
  keepers = [];
});
afterEach(() => {
  for (const keeper of keepers) keeper.stop();
  vi.useRealTimers();
  rmSync(directory, { recursive: true, force: true });
});

function keep(more: Partial<KeySetKeeperOptions> = {}): KeySetKeeper {
  const log = pino({ level: 'error' }, { write: (line) => complaints.push(JSON.parse(line).msg) });
  const keeper = new KeySetKeeper({
    fetch: async ({ source }) => {
      fetched.push(source.name);
      const answer = answers.get(source.name) ?? new Error('down');
      if (typeof answer !== 'string') throw answer;
      return { text: answer, ignored: [] };
    },
    rhythm: RHYTHM,
    concurrency: 2,
    maxSources: 10,
    maxSourcesOfOne: 5,
    file: new KeySetFile(directory, log),
    onChange: () => changes++,
    metrics,
    log,
    clock: () => Date.now(),
    ...more,
  });
  keepers.push(keeper);
  return keeper;
}

const settle = () => vi.advanceTimersByTimeAsync(0);
const advance = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const states = async () =>
  Object.fromEntries((await metrics.jwksKeySets.get()).values.map(({ labels, value }) => [labels.state, value]));

describe('keys that are wanted', () => {
  test('are null until they are fetched, then there', async () => {
    const keeper = keep();
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    expect([...keeper.texts()]).toEqual([['a', null]]);
    await settle();
    expect([...keeper.texts()]).toEqual([['a', SET('1')]]);
    expect(changes).toBe(1);
    expect(await states()).toEqual({ missing: 0, stale: 0, current: 1 });
  });

  test('are fetched again after 20 minutes, and a rotation is told', async () => {
    const keeper = keep();
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    await advance(20 * MINUTE - 1);
    expect(fetched).toEqual(['a']);
    answers.set('a', SET('2'));
    await advance(1);
    expect(keeper.texts().get('a')).toBe(SET('2'));
    expect(changes).toBe(2);
    await advance(20 * MINUTE);
    expect([fetched.length, changes]).toEqual([3, 2]);
  });

  test('are not fetched again because manifests have changed', async () => {
    const keeper = keep();
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    await settle();
    keeper.want(wants('a'));
    await settle();
    expect(fetched).toEqual(['a']);
  });

  test('are fetched anew where they are asked for in another way', async () => {
    const keeper = keep();
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    await settle();
    const source = { kind: 'discovery', name: 'a', issuer: 'i' } as const;
    keeper.want(new Map([['a', { ...wanted('a'), source }]]));
    expect(keeper.texts().get('a')).toBeNull();
    await settle();
    expect(fetched).toEqual(['a', 'a']);
  });

  test('are forgotten when they are not wanted any more, and not fetched again', async () => {
    const keeper = keep();
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    await settle();
    keeper.want(new Map());
    expect(keeper.texts().size).toBe(0);
    await advance(DAY);
    expect(fetched).toEqual(['a']);
  });

  test('that come after they were forgotten change nothing', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const keeper = keep({
      fetch: async () => {
        await promise;
        return { text: SET('1'), ignored: [] };
      },
    });
    keeper.want(wants('a'));
    keeper.want(new Map());
    resolve();
    await settle();
    expect([keeper.texts().size, changes, vi.getTimerCount()]).toEqual([0, 0, 0]);
  });

  test('are not waited for any more when the control plane stops', async () => {
    let given: AbortSignal | null = null;
    const keeper = keep({
      fetch: (_wanted, signal) => {
        given = signal;
        return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      },
    });
    keeper.want(wants('a', 'b', 'c'));
    keeper.stop();
    await settle();
    expect(given).toMatchObject({ aborted: true });
    expect([complaints, vi.getTimerCount()]).toEqual([[], 0]);
  });

  test('that were forgotten while they waited for their turn, and are wanted again, are fetched once', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const keeper = keep({
      concurrency: 1,
      fetch: async ({ source }) => {
        fetched.push(source.name);
        await promise;
        return { text: SET('1'), ignored: [] };
      },
    });
    keeper.want(wants('x', 'a'));
    keeper.want(wants('x'));
    keeper.want(wants('x', 'a'));
    resolve();
    await settle();
    expect(fetched).toEqual(['x', 'a']);
  });

  test('are fetched a few at a time, and all in the end', async () => {
    let running = 0;
    let most = 0;
    const keeper = keep({
      fetch: async ({ source }) => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 10));
        running--;
        return { text: SET(source.name), ignored: [] };
      },
    });
    keeper.want(wants('a', 'b', 'c', 'd', 'e'));
    await advance(100);
    expect(most).toBe(2);
    expect([...keeper.texts().values()]).not.toContain(null);
  });

  test('of a namespace do not wait behind all those of another whose servers are slow', async () => {
    const keeper = keep({
      concurrency: 2,
      fetch: async ({ source }) => {
        fetched.push(source.name);
        if (source.name.startsWith('slow')) await new Promise((resolve) => setTimeout(resolve, 30_000));
        return { text: SET(source.name), ignored: [] };
      },
    });
    const slow = ['slow1', 'slow2', 'slow3', 'slow4'].map((name): [string, WantedSource] => [
      name,
      wanted(name, 'evil'),
    ]);
    keeper.want(new Map([...slow, ['shared', wanted('shared', 'evil', 'shop')], ['own', wanted('own', 'shop')]]));
    await advance(30_000);
    expect(fetched).toEqual(expect.arrayContaining(['shared', 'own']));
  });

  test('are bounded in number: the rest have none', async () => {
    const keeper = keep({ maxSources: 1 });
    answers.set('a', SET('1')).set('b', SET('2'));
    keeper.want(wants('a', 'b'));
    await settle();
    expect(fetched).toEqual(['a']);
    expect(complaints.join()).toMatch(/more than 1 sources/);
  });

  test('are bounded for each namespace, so that none takes them from others; whoever shares one needs a share once', async () => {
    const keeper = keep({ maxSources: 4, maxSourcesOfOne: 2 });
    const evil = ['e1', 'e2', 'e3', 'e4'].map((name): [string, WantedSource] => [name, wanted(name, 'evil')]);
    keeper.want(new Map([...evil, ['e3', wanted('e3', 'evil', 'shop')], ['s', wanted('s', 'shop')]]));
    await settle();
    expect([...keeper.texts().keys()]).toEqual(['e1', 'e2', 'e3', 's']);
    expect(complaints.join()).toMatch(/more than 2 by one namespace/);
    keeper.want(new Map([...evil.slice(1), ['s', wanted('s', 'shop')]]));
    await settle();
    expect([...keeper.texts().keys()]).toEqual(['e2', 'e3', 's']);
  });
});

describe('a failure', () => {
  test('is tried again, doubling from a second to a minute', async () => {
    keep().want(wants('a'));
    const counts = [];
    for (const delay of [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, MINUTE, MINUTE]) {
      await advance(delay);
      counts.push(fetched.length);
    }
    expect(counts).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test('leaves null where there never was a success, and says once what to look at', async () => {
    const keeper = keep();
    keeper.want(wants('a'));
    await advance(10 * MINUTE);
    expect([...keeper.texts()]).toEqual([['a', null]]);
    expect(complaints).toHaveLength(1);
    expect(complaints[0]).toMatch(/down; every token of its issuer is refused/);
    expect(await states()).toEqual({ missing: 1, stale: 0, current: 0 });
  });

  test('leaves the last good keys for seven days, then none', async () => {
    const keeper = keep();
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    await settle();
    answers.set('a', new Error('gone'));
    await advance(7 * DAY);
    expect(keeper.texts().get('a')).toBe(SET('1'));
    expect(complaints).toEqual([expect.stringMatching(/gone; those fetched before stay in force/)]);
    expect([changes, await states()]).toEqual([1, { missing: 0, stale: 1, current: 0 }]);
    await advance(20 * MINUTE);
    expect([keeper.texts().get('a'), changes]).toEqual([null, 2]);
    answers.set('a', SET('1'));
    await advance(MINUTE);
    expect([keeper.texts().get('a'), changes]).toEqual([SET('1'), 3]);
  });
});

describe('a restart', () => {
  test('finds the keys that were fetched before, while the issuer is down', async () => {
    const first = keep();
    answers.set('a', SET('1'));
    first.want(wants('a'));
    await settle();
    first.stop();
    answers.clear();
    const second = keep();
    second.want(wants('a'));
    await settle();
    expect(second.texts().get('a')).toBe(SET('1'));
  });

  test('does not believe keys that are too old, nor those of others', async () => {
    const first = keep();
    answers.set('a', SET('1')).set('b', SET('2'));
    first.want(wants('a', 'b'));
    await settle();
    first.stop();
    answers.clear();
    await advance(7 * DAY + 1);
    const second = keep();
    second.want(wants('a', 'c'));
    expect([...second.texts()]).toEqual([
      ['a', null],
      ['c', null],
    ]);
  });

  test('goes on without the file where it is damaged', async () => {
    writeFileSync(join(directory, 'jwks.json'), '{"keySets":{"a":{"jwks":"x","fetchedAt":1},"b":7}');
    const keeper = keep();
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    await settle();
    expect(keeper.texts().get('a')).toBe(SET('1'));
  });

  test('does not depend on a disk that is full', async () => {
    const full = {
      load: () => new Map(),
      save: () => {
        throw new Error('no space');
      },
    };
    const keeper = keep({ file: full });
    answers.set('a', SET('1'));
    keeper.want(wants('a'));
    await settle();
    expect(keeper.texts().get('a')).toBe(SET('1'));
    expect(complaints.join()).toMatch(/no space/);
  });
});
