import type { ServerResponse } from 'node:http';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { WatchEvent } from '../../../kubernetes/api/types.ts';
import { WatchEvents } from '../../../kubernetes/api/watch-events.ts';
import { eventually } from '../../support/eventually.ts';
import { clientOf, json, scriptedServer, status } from './support.ts';

const FROM = { resourceVersion: '5' };
const never = new AbortController().signal;

const pod = (name: string, version: number) => ({ metadata: { name, resourceVersion: String(version) } });
const line = (type: string, object: object): string => `${JSON.stringify({ type, object })}\n`;
const seen = (event: WatchEvent): string =>
  event.type === 'BOOKMARK' ? `BOOKMARK ${event.resourceVersion}` : `${event.type} ${JSON.stringify(event.object)}`;

const LINES = [
  line('ADDED', pod('ä', 6)),
  line('MODIFIED', pod('b', 7)),
  line('DELETED', pod('b', 8)),
  line('BOOKMARK', { metadata: { resourceVersion: '9' } }),
].join('');

describe('a watch', () => {
  test('tells each event in order, and ends when the server ends it', async () => {
    await using server = await scriptedServer((_asked, response) => void response.end(LINES));
    await using client = clientOf(server, { random: () => 0.5 });
    const told: string[] = [];
    let opened = 0;
    await client.watch(
      TYPES.Pod,
      { namespace: 'shop', ...FROM },
      (event) => told.push(seen(event)),
      never,
      () => opened++,
    );
    expect(told.map((text) => text.split(' ')[0])).toEqual(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK']);
    expect(opened).toBe(1);
    expect(Object.fromEntries(server.asked[0]?.query ?? [])).toEqual({
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: '5',
      timeoutSeconds: '450',
    });
  });

  test.each([
    ['as its answer', (response: ServerResponse) => json(response, 410, status(410, 'Gone', 'too old')), 'Gone'],
    [
      'as an event',
      (response: ServerResponse) =>
        void response.end(line('ADDED', pod('a', 6)) + line('ERROR', status(410, 'Expired', 'too old'))),
      'Expired',
    ],
    [
      'as an event without a reason',
      (response: ServerResponse) => void response.end(line('ERROR', { code: 410 })),
      'Gone',
    ],
  ])('that is told 410 %s ends with that reason', async (_name, answer, reason) => {
    await using server = await scriptedServer((_asked, response) => answer(response));
    await using client = clientOf(server);
    await expect(client.watch(TYPES.Pod, FROM, () => {}, never)).rejects.toMatchObject({ reason, status: 410 });
  });

  test('whose connection breaks is no good end', async () => {
    await using server = await scriptedServer((_asked, response) => {
      response.write(LINES);
      setTimeout(() => response.destroy(), 50);
    });
    await using client = clientOf(server);
    let count = 0;
    const work = client.watch(TYPES.Pod, FROM, () => count++, never);
    await expect(work).rejects.toMatchObject({ reason: 'Unreachable' });
    expect(count).toBe(4);
  });

  test('that stays silent for longer than it asked for is given up', async () => {
    await using server = await scriptedServer((_asked, response) => response.flushHeaders());
    const timings = { watchLeastMs: 20, watchMostMs: 20, watchSlackMs: 80 };
    await using client = clientOf(server, { timings });
    await expect(client.watch(TYPES.Pod, FROM, () => {}, never)).rejects.toThrow(/silent/);
  });

  test('that the server does not begin is given up at the deadline', async () => {
    await using server = await scriptedServer(() => {});
    await using client = clientOf(server, { timings: { requestMs: 100 } });
    await expect(client.watch(TYPES.Pod, FROM, () => {}, never)).rejects.toThrow(/no answer within 100 ms/);
  });

  test('ends when its caller wants no more, and leaves no connection behind', async () => {
    let closed = 0;
    await using server = await scriptedServer((_asked, response) => {
      response.on('close', () => closed++);
      response.write(LINES);
    });
    await using client = clientOf(server);
    const stop = new AbortController();
    let count = 0;
    const work = client.watch(
      TYPES.Pod,
      FROM,
      () => {
        count++;
        stop.abort();
      },
      stop.signal,
    );
    await expect(work).rejects.toMatchObject({ reason: 'Aborted' });
    expect(count).toBe(1);
    await eventually(() => closed === 1, { what: 'the end of the connection' });
  });

  test('has a connection of its own: twenty of them do not keep a request waiting', async () => {
    await using server = await scriptedServer(({ query }, response) => {
      if (query.has('watch')) response.flushHeaders();
      else json(response, 200, {});
    });
    await using client = clientOf(server, { limits: { connections: 2 } });
    const stop = new AbortController();
    const watches = Array.from({ length: 20 }, () => client.watch(TYPES.Pod, FROM, () => {}, stop.signal));
    await eventually(() => server.asked.length === 20, { what: 'twenty watches' });
    await client.get(TYPES.Pod, { namespace: 'a', name: 'b' });
    stop.abort();
    await Promise.allSettled(watches);
  });
});

describe('the events of a stream', () => {
  test('are the same however its bytes are cut', () => {
    const bytes = Buffer.from(LINES);
    const whole = [...new WatchEvents('w').push(bytes)].map(seen);
    const cuts = fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 12 });
    fc.assert(
      fc.property(cuts, (places) => {
        const events = new WatchEvents('w');
        const edges = [0, ...places.sort((a, b) => a - b), bytes.length];
        const told = edges.slice(1).flatMap((end, i) => [...events.push(bytes.subarray(edges[i] ?? 0, end))]);
        expect(told.map(seen)).toEqual(whole);
      }),
    );
  });

  test.each([
    ['no JSON', 'oops\n', /no event/],
    ['a list', '[]\n', /no event/],
    ['no object', '{"type":"ADDED"}\n', /no event/],
    ['an unknown type', line('RENAMED', pod('a', 1)), /unknown type/],
    ['no version', line('ADDED', { metadata: {} }), /no resourceVersion/],
    ['too long a line', `${' '.repeat(100)}\n`, /more than 90 bytes/],
  ])('with %s are refused', (_name, text, message) => {
    expect(() => [...new WatchEvents('w', 90).push(Buffer.from(text))]).toThrow(message);
  });
});
