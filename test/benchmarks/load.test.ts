import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { parseStubStatus } from '../../benchmarks/lib/backend.ts';
import { BulkFlow } from '../../benchmarks/lib/bulk-flow.ts';
import type { Endpoint } from '../../benchmarks/lib/contender.ts';
import { answerLength, openConnections } from '../../benchmarks/lib/http-connection.ts';
import { checkWrk } from '../../benchmarks/lib/load.ts';
import { measureLatency, summarize } from '../../benchmarks/lib/open-loop.ts';
import { eventually } from '../support/eventually.ts';

const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';
const servers: Server[] = [];
const sockets = new Set<Socket>();

/** A server on loopback that does `onRequest` for each chunk it gets. */
async function serve(onRequest: (socket: Socket) => void): Promise<Endpoint> {
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('data', () => onRequest(socket));
    socket.on('error', () => socket.destroy());
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('no port');
  return { address: '127.0.0.1', port: bound.port };
}

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers.splice(0)) server.close();
  sockets.clear();
});

const never = new AbortController().signal;

describe('the open-loop generator', () => {
  test('sends every request of its schedule and counts those after the settling time', async () => {
    let requests = 0;
    const target = await serve((socket) => {
      requests++;
      socket.write(ANSWER);
    });
    const latency = await measureLatency(
      target,
      { connections: 8, perSecond: 500, settleMs: 100, windowMs: 200 },
      never,
    );
    expect(requests).toBe(150);
    expect(latency.count).toBe(100);
    expect(latency.p50).toBeGreaterThan(0);
  });

  test('charges a stall to every request that was due meanwhile, not to the one that was sent', async () => {
    let first = true;
    let stalled: (() => void)[] | null = null;
    const target = await serve((socket) => {
      if (first) {
        first = false;
        stalled = [];
        setTimeout(() => {
          const release = stalled ?? [];
          stalled = null;
          for (const answer of release) answer();
        }, 150);
      }
      if (stalled === null) socket.write(ANSWER);
      else stalled.push(() => socket.write(ANSWER));
    });
    // One connection: a closed loop would send one request into the stall and report one slow answer of 100.
    const plan = { connections: 1, perSecond: 500, settleMs: 0, windowMs: 200 };
    const latency = await measureLatency(target, plan, never);
    expect(latency.p50).toBeGreaterThan(20_000);
  });

  test('fails where a connection is cut', async () => {
    const target = await serve((socket) => socket.end());
    const plan = { connections: 2, perSecond: 100, settleMs: 0, windowMs: 100 };
    await expect(measureLatency(target, plan, never)).rejects.toThrow(/closed under load/);
  });

  test('stops when the run is interrupted', async () => {
    const target = await serve(() => undefined);
    const plan = { connections: 1, perSecond: 100, settleMs: 0, windowMs: 60_000 };
    await expect(measureLatency(target, plan, AbortSignal.timeout(50))).rejects.toThrow(/timeout/i);
  });

  test('summarizes microseconds by quantiles', () => {
    const latencies = Float64Array.from({ length: 101 }, (_, index) => 100 - index);
    expect(summarize(latencies)).toEqual({ p50: 50, p99: 99, max: 100, count: 101 });
  });
});

describe('the bulk flow', () => {
  test('reads at its rate, not at that of a sender which could do more', async () => {
    const block = Buffer.alloc(1024 * 1024);
    const target = await serve((socket) => {
      const more = (): void => {
        while (!socket.destroyed && socket.write(block));
      };
      socket.on('drain', more);
      more();
    });
    const flow = await BulkFlow.open(target, 2_000_000, 1);
    await eventually(() => flow.bytesPerSecond() > 0, { what: 'the first bytes' });
    // So long that one read more or less is little.
    await new Promise((resolve) => setTimeout(resolve, 300));
    const rate = flow.bytesPerSecond();
    flow.close();
    expect(rate).toBeLessThan(3_000_000);
  });

  test('that is cut off is told, not measured', async () => {
    const target = await serve((socket) => socket.end('HTTP/1.1 503 Unavailable\r\n\r\n'));
    const flow = await BulkFlow.open(target, 1_000_000, 1);
    await eventually(() => /cut off/.test(whatIsThrown(() => flow.bytesPerSecond())), { what: 'the end to be told' });
    flow.close();
  });
});

function whatIsThrown(action: () => unknown): string {
  try {
    action();
    return '';
  } catch (thrown) {
    return String(thrown);
  }
}

test('connections that are opened to be held have each carried a request', async () => {
  let requests = 0;
  const target = await serve((socket) => {
    requests++;
    socket.write(ANSWER);
  });
  const connections = await openConnections(target, 60);
  expect(requests).toBe(60);
  expect(connections.every((connection) => connection.isOpen)).toBe(true);
  for (const connection of connections) connection.close();
  expect(connections.some((connection) => connection.isOpen)).toBe(false);
});

test('an answer other than 200 is no answer to hold a connection by', async () => {
  const target = await serve((socket) => socket.write('HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n'));
  await expect(openConnections(target, 3)).rejects.toThrow(/not the answer expected/);
});

describe('the length of an answer', () => {
  const lowerCase = 'HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 10\r\nx: y\r\n\r\n';
  test.each([
    { what: 'an incomplete head', head: 'HTTP/1.1 200 OK\r\nContent-Le', expected: 0 },
    { what: 'a whole answer', head: ANSWER, expected: ANSWER.length },
    { what: 'a head in lower case', head: lowerCase, expected: lowerCase.length + 10 },
    { what: 'chunks', head: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', expected: -1 },
    { what: 'a refusal', head: 'HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n', expected: -1 },
    { what: 'a length in the body', head: 'HTTP/1.1 200 OK\r\nX: y\r\n\r\nContent-Length: 5\r\n\r\n', expected: -1 },
    { what: 'a head without end', head: 'x'.repeat(20_000), expected: -1 },
  ])('of $what is $expected', ({ head, expected }) => {
    expect(answerLength(head)).toBe(expected);
  });
});

describe("wrk's report", () => {
  const good = 'Running 2s test\n  49010 requests in 2.10s, 11.50MB read\nRequests/sec:  23338.09\n';

  test('without errors is accepted', () => {
    expect(() => checkWrk(good, 'a proxy')).not.toThrow();
  });

  test.each([
    ['  Socket errors: connect 0, read 3, write 0, timeout 1\n', /socket errors through a proxy: connect 0, read 3/],
    ['  Non-2xx or 3xx responses: 12\n', /12 answers other than 200/],
  ])('with %j makes the measurement void', (line, message) => {
    expect(() => checkWrk(good + line, 'a proxy')).toThrow(message);
  });

  test('that names no requests makes the measurement void', () => {
    expect(() => checkWrk('', 'a proxy')).toThrow(/said nothing/);
  });
});

test("nginx's counter of requests is the third number", () => {
  const page =
    'Active connections: 33 \nserver accepts handled requests\n 1042 1042 98765 \nReading: 0 Writing: 1 Waiting: 32 \n';
  expect(parseStubStatus(page)).toBe(98_765);
  expect(() => parseStubStatus('<html>404</html>')).toThrow(/status page/);
});
