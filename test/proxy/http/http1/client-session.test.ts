import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ClientBench, head } from './support.ts';

const GET = head('GET /a HTTP/1.1', 'Host: orders');
const POST = head('POST /a HTTP/1.1', 'Host: orders', 'Transfer-Encoding: chunked');
const OK = `${head('HTTP/1.1 200 OK', 'Content-Length: 2')}hi`;
const CHUNKED_OK = head('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked');

describe('a request and its response', () => {
  test('leave the connection free for the next', () => {
    const bench = new ClientBench();
    for (let i = 1; i <= 3; i++) {
      expect(bench.session.room).toBe(1);
      const { answer } = bench.ask(GET);
      expect([bench.session.room, bench.session.active]).toEqual([0, 1]);
      expect(bench.feed(OK)).toBe(GET);
      expect([answer.events, answer.body]).toEqual([['200', 'end'], 'hi']);
      expect([bench.rooms, bench.session.active]).toEqual([i, 0]);
    }
    expect(bench.channel.over).toBe(false);
  });

  test('arm no timer while one is armed, and pause nothing', () => {
    const bench = new ClientBench();
    for (let i = 0; i < 5; i++) {
      bench.ask(GET);
      bench.feed(OK);
    }
    expect([bench.loop.arms, bench.channel.paused, bench.channel.writes]).toEqual([1, false, 5]);
  });

  test('free the connection before the end is told: whoever hears it may ask again', () => {
    const bench = new ClientBench();
    const { answer } = bench.ask(GET);
    answer.onEnd = () => void bench.ask(GET.replace('/a', '/b'));
    bench.feed(OK);
    expect(bench.feed(OK)).toBe(GET.replace('/a', '/b'));
    expect(bench.rooms).toBe(1);
  });

  test.each([
    ['HEAD', head('HEAD / HTTP/1.1', 'Host: a'), head('HTTP/1.1 200 OK', 'Content-Length: 5'), ['200 ends']],
    ['204', GET, head('HTTP/1.1 204 No Content'), ['204 ends']],
    ['304', GET, head('HTTP/1.1 304 Not Modified', 'Content-Length: 7'), ['304 ends']],
    ['an empty body', GET, head('HTTP/1.1 200 OK', 'Content-Length: 0'), ['200 ends']],
    [
      '1xx first',
      GET,
      head('HTTP/1.1 100 Continue') + head('HTTP/1.1 103 Early Hints') + OK,
      ['informational 100', 'informational 103', '200', 'end'],
    ],
    ['trailers', GET, `${CHUNKED_OK}1\r\na\r\n0\r\nx-sum: 1\r\n\r\n`, ['200', 'end x-sum=1']],
  ])('%s', (_, request, response, wanted) => {
    const bench = new ClientBench();
    const { answer } = bench.ask(request);
    bench.feed(response);
    expect([answer.events, bench.session.room]).toEqual([wanted, 1]);
  });

  test('are the same however the bytes are split', () => {
    const response = `${head('HTTP/1.1 103 Early Hints')}${CHUNKED_OK}5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 1\r\n\r\n`;
    const run = (cuts: readonly number[]): unknown => {
      const bench = new ClientBench();
      const { answer } = bench.ask(GET);
      let from = 0;
      for (const cut of [...cuts, response.length]) {
        bench.feed(response.slice(from, cut));
        from = cut;
      }
      bench.loop.free();
      return [answer.events, answer.body, bench.session.room];
    };
    const wanted = [['informational 103', '200', 'end x-sum=1'], 'hello world', 1];
    for (let cut = 1; cut < response.length; cut++) expect([cut, run([cut])]).toEqual([cut, wanted]);
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: response.length - 1 }), { maxLength: 20 });
    fc.assert(
      fc.property(cuts, (some) => {
        expect(run([...some].sort((a, b) => a - b))).toEqual(wanted);
      }),
      { numRuns: 200 },
    );
  });
});

describe('a connection is not used again', () => {
  test.each([
    ['that says so', GET, head('HTTP/1.1 200 OK', 'Content-Length: 0', 'Connection: close'), ['200 ends']],
    ['of HTTP/1.0', GET, head('HTTP/1.0 200 OK', 'Content-Length: 0'), ['200 ends']],
    ['with bytes behind the response', GET, `${OK}HTTP/1.1 200 OK\r\n`, ['200', 'end']],
    ['with bytes behind a response without a body', GET, `${head('HTTP/1.1 204 No Content')}x`, ['204 ends']],
  ])('%s', (_, request, response, wanted) => {
    const bench = new ClientBench();
    const { answer } = bench.ask(request);
    bench.feed(response);
    expect(answer.events).toEqual(wanted);
    expect([bench.channel.over, bench.session.room, bench.rooms, bench.ends]).toEqual([true, 0, 0, ['']]);
  });

  test.each([
    ['NTLM TlRMTVNTUAAB', 0],
    ['negotiate YII', 0],
    ['Basic YTpi, Negotiate YII', 0],
    ['Bearer negotiate', 1],
    ['Basic bnRsbTo=', 1],
  ])('that may have taken the credentials of one caller for its own: %s', (credentials, room) => {
    const bench = new ClientBench();
    bench.ask(head('GET /a HTTP/1.1', 'Host: orders', `Authorization: ${credentials}`));
    bench.feed(OK);
    expect([bench.session.room, bench.channel.finished]).toEqual([room, room === 0]);
  });

  test('whose response ends with it', () => {
    const bench = new ClientBench();
    const { answer } = bench.ask(GET);
    bench.feed(`${head('HTTP/1.1 200 OK')}all of`);
    bench.feed(' it');
    bench.channel.sendEnd();
    expect([answer.events, answer.body]).toEqual([['200', 'end'], 'all of it']);
    expect([bench.channel.finished, bench.ends.length]).toEqual([true, 1]);
  });

  test('whose response came before the end of its request', () => {
    const bench = new ClientBench();
    const { answer, exchange } = bench.ask(POST, false);
    bench.feed(OK);
    expect([answer.events, bench.session.room, bench.channel.over]).toEqual([['200', 'end'], 0, true]);
    exchange.abort('not wanted');
    expect(bench.ends.length).toBe(1);
  });

  test('that retires: at once, or after its request', () => {
    const idle = new ClientBench();
    idle.session.retire();
    expect([idle.session.room, idle.channel.finished, idle.ends]).toEqual([0, true, ['retired']]);
    const busy = new ClientBench();
    const { answer } = busy.ask(GET);
    busy.session.retire();
    busy.feed(OK);
    expect([answer.events, busy.channel.finished, busy.rooms]).toEqual([['200', 'end'], true, 0]);
  });

  test('over a channel that retires', () => {
    const bench = new ClientBench();
    bench.channel.retiring = true;
    expect(bench.session.room).toBe(0);
  });

  test('that sends bytes nobody asked for', () => {
    const bench = new ClientBench();
    bench.feed(OK);
    expect([bench.channel.aborted !== null, bench.session.room, bench.ends.length]).toEqual([true, 0, 1]);
  });

  test('that ends while it is idle: nobody is hurt', () => {
    for (const end of [
      (bench: ClientBench) => bench.channel.sendEnd(),
      (bench: ClientBench) => bench.channel.die('ECONNRESET'),
    ]) {
      const bench = new ClientBench();
      end(bench);
      expect([bench.session.room, bench.ends.length, bench.channel.over]).toEqual([0, 1, true]);
    }
  });
});

describe('a request fails', () => {
  test.each([
    ['reset where the connection ends before the response', '', 'end', /^failed reset/],
    ['reset where the connection dies before the response', '', 'die', /^failed reset/],
    ['reset after a 1xx', head('HTTP/1.1 103 Early Hints'), 'end', /^failed reset/],
    ['protocol where it ends within a head', 'HTTP/1.1 200 O', 'end', /^failed protocol/],
    ['protocol where it dies within a head', 'HTTP/1.1 200 O', 'die', /^failed protocol/],
    ['reset where it ends within a body of known length', OK.slice(0, -1), 'end', /^failed reset/],
    ['reset where it ends within chunks', `${CHUNKED_OK}5\r\nab`, 'end', /^failed reset/],
    ['reset where a body until close does not end in order', `${head('HTTP/1.1 200 OK')}ab`, 'die', /^failed reset/],
  ])('%s', (_, bytes, how, wanted) => {
    const bench = new ClientBench();
    const { answer } = bench.ask(GET);
    bench.loop.settle();
    if (bytes !== '') bench.feed(bytes);
    if (how === 'end') bench.channel.sendEnd();
    else bench.channel.die('ECONNRESET');
    expect(answer.events.at(-1)).toMatch(wanted);
    expect([bench.channel.finished, bench.session.room, bench.ends.length]).toEqual([false, 0, 1]);
  });

  test.each(['end', 'die', 'data'])('refused where nothing of it had left: %s', (how) => {
    const bench = new ClientBench();
    const { answer } = bench.ask(GET);
    // In the turn that it was written in.
    if (how === 'end') bench.channel.sendEnd();
    else if (how === 'die') bench.channel.die('ECONNRESET');
    else bench.channel.send(OK);
    expect(answer.events.length).toBe(1);
    expect(answer.events[0]).toMatch(/^failed refused/);
  });

  test.each([
    ['both lengths', head('HTTP/1.1 200 OK', 'Content-Length: 2', 'Transfer-Encoding: chunked')],
    ['two lengths', head('HTTP/1.1 200 OK', 'Content-Length: 2', 'Content-Length: 3')],
    ['a coding that is not known', head('HTTP/1.1 200 OK', 'Transfer-Encoding: gzip, chunked')],
    ['a body in 204', head('HTTP/1.1 204 No Content', 'Content-Length: 3')],
    ['obs-fold', 'HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n'],
    ['garbage', '\x00\x00\x12\x04\x00\r\n'],
    ['a head above the limit', head('HTTP/1.1 200 OK', `X-A: ${'a'.repeat(5_000)}`)],
    ['a chunk that is none', `${CHUNKED_OK}0x5\r\nhello\r\n`],
    [
      '101 that was not asked for',
      head('HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: websocket'),
    ],
    ['1xx without end', head('HTTP/1.1 103 Early Hints').repeat(100)],
  ])('protocol for %s', (_, response) => {
    const bench = new ClientBench();
    const { answer } = bench.ask(GET);
    bench.feed(response);
    expect(answer.events.at(-1)).toMatch(/^failed protocol/);
    expect([bench.channel.aborted !== null, bench.ends.length, bench.rooms]).toEqual([true, 1, 0]);
  });

  test('and its session is given back even where whoever hears of it fails', () => {
    const bench = new ClientBench();
    const { answer } = bench.ask(GET);
    answer.onFailed = () => {
      throw new Error('a bug');
    };
    expect(() => bench.session.close('policy')).toThrow('a bug');
    expect([bench.ends, bench.session.room]).toEqual([['policy'], 0]);
  });

  test('reset where the session is closed', () => {
    const bench = new ClientBench();
    const { answer } = bench.ask(GET);
    bench.session.close('trust changed');
    expect([answer.events, bench.ends]).toEqual([['failed reset: trust changed'], ['trust changed']]);
  });

  test('timeout where no byte comes for too long', () => {
    const bench = new ClientBench({ streamIdleTimeoutMs: 5_000 });
    const { answer } = bench.ask(GET);
    bench.loop.pass(4_000);
    bench.feed(CHUNKED_OK);
    bench.loop.pass(4_000);
    expect(answer.events).toEqual(['200']);
    bench.loop.pass(3_000);
    expect(answer.events.at(-1)).toMatch(/^failed timeout/);
  });

  test('timeout where the response takes too long after the request', () => {
    const bench = new ClientBench({ requestTimeoutMs: 5_000 });
    const { exchange, answer } = bench.ask(POST, false);
    bench.feed(CHUNKED_OK);
    bench.loop.pass(8_000);
    exchange.finish(null);
    for (let i = 0; i < 4; i++) {
      bench.loop.pass(1_000);
      bench.feed('1\r\na\r\n');
    }
    expect(answer.events).toEqual(['200']);
    bench.loop.pass(1_500);
    expect(answer.events.at(-1)).toMatch(/^failed timeout/);
  });

  test('and no event follows where it is aborted', () => {
    const bench = new ClientBench();
    const { exchange, answer } = bench.ask(GET);
    exchange.abort('not wanted');
    exchange.abort('not wanted');
    bench.channel.die('x');
    expect([answer.events, bench.channel.aborted, bench.ends]).toEqual([[], 'not wanted', ['not wanted']]);
  });
});

describe('a request body', () => {
  test('of unknown length is chunked, a chunk for each piece', () => {
    const bench = new ClientBench();
    const { exchange } = bench.ask(POST, false);
    bench.write(exchange, 'one');
    bench.write(exchange, '');
    bench.write(exchange, 'two');
    exchange.finish(null);
    exchange.finish(null);
    expect(bench.feed(OK)).toBe(`${POST}3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n`);
    expect(bench.session.room).toBe(1);
  });

  const sized = head('POST /a HTTP/1.1', 'Host: orders', 'Content-Length: 3');

  test('of known length goes as it is', () => {
    const bench = new ClientBench();
    const { exchange } = bench.ask(sized, false);
    bench.write(exchange, 'ab');
    bench.write(exchange, 'c');
    exchange.finish(null);
    expect(bench.feed(OK)).toBe(`${sized}abc`);
  });

  test.each([
    ['longer', 'abcd'],
    ['shorter', 'ab'],
  ])('that is %s than declared never looks complete', (_, text) => {
    const bench = new ClientBench();
    const { exchange, answer } = bench.ask(sized, false);
    bench.write(exchange, text);
    exchange.finish(null);
    expect(answer.events).toEqual([]);
    expect(bench.feed(OK)).toBe(text.length > 3 ? sized : `${sized}ab`);
    expect([answer.events.length, bench.channel.aborted !== null]).toEqual([1, true]);
    expect(answer.events[0]).toMatch(/^failed protocol/);
  });
});

describe('back-pressure', () => {
  test('stops the body of the response at once, and nothing is lost', () => {
    const bench = new ClientBench();
    const { exchange, answer } = bench.ask(GET);
    bench.feed(`${CHUNKED_OK}3\r\nabc\r\n`);
    exchange.pause();
    bench.feed('3\r\ndef\r\n');
    bench.feed('0\r\n\r\n');
    expect([answer.body, answer.events, bench.channel.paused]).toEqual(['abc', ['200'], true]);
    exchange.resume();
    bench.loop.settle();
    expect([answer.body, answer.events, bench.session.room]).toEqual(['abcdef', ['200', 'end'], 1]);
  });

  test('of the request is that of the channel', () => {
    const bench = new ClientBench();
    const { exchange, answer } = bench.ask(POST, false);
    bench.channel.congested = true;
    expect(exchange.congested).toBe(true);
    bench.channel.drain();
    expect(answer.events).toEqual(['drain']);
  });

  test('of one response does not stop the next', () => {
    const bench = new ClientBench();
    const { exchange } = bench.ask(GET);
    bench.feed(head('HTTP/1.1 200 OK', 'Content-Length: 2'));
    exchange.pause();
    bench.channel.resume();
    exchange.resume();
    bench.feed('hi');
    const { answer } = bench.ask(GET);
    bench.feed(OK);
    expect([answer.body, bench.channel.paused]).toEqual(['hi', false]);
  });
});

describe('a connection that becomes something else', () => {
  test.each([
    [
      'an upgrade',
      head('GET /chat HTTP/1.1', 'Host: a', 'Connection: upgrade', 'Upgrade: websocket'),
      head('HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: upgrade'),
    ],
    ['CONNECT', head('CONNECT db:5432 HTTP/1.1', 'Host: db:5432'), head('HTTP/1.1 200 OK')],
  ])('%s: carries bytes both ways, and both ends', (_, request, response) => {
    for (const first of ['peer', 'us']) {
      const bench = new ClientBench({ requestTimeoutMs: 1_000 });
      const { exchange, answer } = bench.ask(request);
      expect(bench.feed(`${response}early`)).toMatch(/^(?:GET|CONNECT) /);
      bench.write(exchange, 'up');
      expect(bench.feed(' down')).toBe('up');
      bench.loop.pass(2_000);
      expect(answer.body).toBe('early down');
      if (first === 'us') exchange.finish(null);
      else bench.channel.sendEnd();
      expect([bench.channel.ended, bench.channel.over]).toEqual([first === 'us', false]);
      if (first === 'us') bench.channel.sendEnd();
      else {
        bench.write(exchange, 'more');
        exchange.finish(null);
      }
      expect([answer.events.slice(1), bench.channel.finished, bench.ends]).toEqual([['end'], true, ['']]);
    }
  });

  test('fails where it becomes something that was not asked for', () => {
    const bench = new ClientBench();
    const { answer } = bench.ask(head('GET / HTTP/1.1', 'Host: a', 'Connection: upgrade', 'Upgrade: websocket'));
    bench.feed(head('HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: spdy'));
    expect(answer.events[0]).toMatch(/^failed protocol/);
  });
});
