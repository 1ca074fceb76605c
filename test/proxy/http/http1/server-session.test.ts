import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Asked, head, responseHead, ServerBench } from './support.ts';

const GET = head('GET /a HTTP/1.1', 'Host: orders');
const OK = head('HTTP/1.1 200 OK', 'Content-Length: 2');
const CHUNKED_OK = head('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked');
const post = (length: number, ...more: readonly string[]): string =>
  head('POST /a HTTP/1.1', 'Host: orders', `Content-Length: ${length}`, ...more);

/** Answers each request with its own target and body, once it is complete. */
function echo(asked: Asked): void {
  const { exchange } = asked;
  const answer = (): void => {
    asked.respond(CHUNKED_OK, `${exchange.head.method} ${exchange.head.target}: ${asked.body} `);
  };
  asked.onRequestEnd = answer;
  exchange.receive(asked);
  if (exchange.bodyless) answer();
}

describe('a request and its response', () => {
  test('leave the connection ready for the next', () => {
    const bench = new ServerBench();
    for (let i = 0; i < 3; i++) {
      expect(bench.feed(GET)).toBe('');
      bench.request(i).respond(OK, 'hi');
      expect(bench.channel.take()).toBe(`${OK}hi`);
    }
    expect([bench.session.active, bench.ends, bench.channel.over]).toEqual([0, [], false]);
  });

  test('arm no timer and pause nothing', () => {
    const bench = new ServerBench();
    const { arms } = bench.loop;
    for (let i = 0; i < 3; i++) {
      bench.feed(GET);
      bench.request(i).respond(OK, 'hi');
    }
    expect([bench.loop.arms, bench.channel.paused]).toEqual([arms, false]);
  });

  test.each([
    ['HEAD', 'HEAD /', 'HTTP/1.1 200 OK\r\nContent-Length: 5', 'HTTP/1.1 200 OK\r\nContent-Length: 5'],
    ['204', 'GET /', 'HTTP/1.1 204 No Content', 'HTTP/1.1 204 No Content'],
    [
      '304',
      'GET /',
      'HTTP/1.1 304 Not Modified\r\nContent-Length: 9',
      'HTTP/1.1 304 Not Modified\r\nContent-Length: 9',
    ],
    ['an empty body', 'GET /', 'HTTP/1.1 200 OK\r\nContent-Length: 0', 'HTTP/1.1 200 OK\r\nContent-Length: 0'],
  ])('without a body: %s', (_, line, given, wanted) => {
    const bench = new ServerBench();
    bench.feed(head(`${line} HTTP/1.1`, 'Host: a'));
    bench.request().respond(head(given));
    expect(bench.channel.take()).toBe(head(wanted));
    expect(bench.session.active).toBe(0);
  });

  test('of unknown length are chunked, a chunk for each piece, with trailers', () => {
    const bench = new ServerBench();
    bench.feed(GET);
    const { exchange } = bench.request();
    bench.request().exchange.respond(responseHead(CHUNKED_OK), false);
    bench.request().write('one');
    bench.request().write('');
    bench.request().write('seventeen letters');
    exchange.finish(null);
    expect(bench.channel.take()).toBe(`${CHUNKED_OK}3\r\none\r\n11\r\nseventeen letters\r\n0\r\n\r\n`);
  });

  test.each([
    ['more bytes than declared', (asked: Asked) => asked.write('abc')],
    ['fewer bytes than declared', (asked: Asked) => asked.exchange.finish(null)],
  ])('are broken off where the response has %s', (_, go) => {
    const bench = new ServerBench();
    bench.feed(GET);
    bench.request().exchange.respond(responseHead(OK), false);
    go(bench.request());
    expect(bench.channel.take()).toBe(OK);
    expect([bench.channel.aborted !== null, bench.ends.length]).toEqual([true, 1]);
  });

  test('never look complete where the response is aborted', () => {
    const bench = new ServerBench();
    bench.feed(GET);
    bench.request().exchange.respond(responseHead(CHUNKED_OK), false);
    bench.request().write('half');
    bench.request().exchange.abort('upstream reset');
    bench.request().exchange.finish(null);
    expect(bench.channel.take()).toBe(`${CHUNKED_OK}4\r\nhalf\r\n`);
    expect([bench.channel.aborted, bench.channel.finished]).toEqual(['upstream reset', false]);
  });

  test('carry 1xx before the response', () => {
    const bench = new ServerBench();
    bench.feed(GET);
    bench.request().exchange.informational(responseHead(head('HTTP/1.1 103 Early Hints', 'Link: </a>')));
    bench.request().respond(OK, 'hi');
    expect(bench.channel.take()).toBe(`${head('HTTP/1.1 103 Early Hints', 'Link: </a>')}${OK}hi`);
  });

  test('are made by ourselves where asked', () => {
    const bench = new ServerBench();
    bench.feed(GET);
    bench.request().exchange.reply({ status: 403, headers: [['x-why', 'rule']], body: 'denied' });
    expect(bench.channel.take()).toBe('HTTP/1.1 403 Forbidden\r\nx-why: rule\r\nContent-Length: 6\r\n\r\ndenied');
    expect(bench.channel.over).toBe(false);
  });

  test('become a 500 and a log line where the handler throws', () => {
    const bench = new ServerBench({}, () => {
      throw new Error('a bug');
    });
    expect(bench.feed(GET)).toMatch(/^HTTP\/1\.1 500 /);
    expect(bench.loop.faults).toEqual(['Error: a bug']);
  });
});

describe('HTTP/1.0', () => {
  const old = (...more: readonly string[]): string => head('GET / HTTP/1.0', ...more);

  test.each([
    [
      'closes after a response of known length',
      old(),
      OK,
      `HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi`,
      true,
    ],
    [
      'stays where it is asked to',
      old('Connection: keep-alive'),
      OK,
      `HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi`,
      false,
    ],
    [
      'gets no chunks',
      old('Connection: keep-alive'),
      CHUNKED_OK,
      `HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi`,
      true,
    ],
  ])('%s', (_, request, response, wanted, closes) => {
    const bench = new ServerBench();
    bench.feed(request);
    bench.request().respond(response, 'hi');
    expect(bench.channel.take()).toBe(wanted);
    expect([bench.channel.finished, bench.ends.length]).toEqual([closes, closes ? 1 : 0]);
  });

  test('gets no 1xx', () => {
    const bench = new ServerBench();
    bench.feed(old());
    bench.request().exchange.informational(responseHead(head('HTTP/1.1 103 Early Hints')));
    expect(bench.channel.take()).toBe('');
  });
});

describe('requests on one connection', () => {
  test('are answered in order, however far ahead they are sent', () => {
    const bench = new ServerBench();
    bench.feed(GET.replace('/a', '/1') + GET.replace('/a', '/2') + GET.replace('/a', '/3'));
    expect(bench.asked.length).toBe(1);
    expect(bench.channel.paused).toBe(true);
    for (let i = 0; i < 3; i++) {
      expect(bench.request(i).exchange.head.target).toBe(`/${i + 1}`);
      bench.request(i).respond(OK, `r${i}`);
      bench.loop.settle();
    }
    expect(bench.channel.take()).toBe(`${OK}r0${OK}r1${OK}r2`);
    expect(bench.channel.paused).toBe(false);
  });

  test('wait while their responses are not read', () => {
    const bench = new ServerBench({}, echo);
    bench.channel.congested = true;
    bench.feed(GET.repeat(3));
    expect(bench.asked.length).toBe(0);
    bench.channel.drain();
    bench.loop.settle();
    expect(bench.asked.length).toBe(3);
  });

  test('do not nest where each is answered at once', () => {
    const bench = new ServerBench({}, (asked) => asked.respond(OK, 'hi'));
    expect(bench.feed(GET.repeat(2_000))).toBe(`${OK}hi`.repeat(2_000));
  });

  test('are the same however their bytes are split', () => {
    const stream =
      GET +
      post(5) +
      'hello' +
      head('PUT /c HTTP/1.1', 'Host: orders', 'Transfer-Encoding: chunked') +
      '5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-sum: 1\r\n\r\n' +
      head('GET /d HTTP/1.1', 'Host: orders', 'Connection: close');
    const run = (cuts: readonly number[]): string => {
      const bench = new ServerBench({}, echo);
      let from = 0;
      let written = '';
      for (const cut of [...cuts, stream.length]) {
        written += bench.feed(stream.slice(from, cut));
        from = cut;
      }
      bench.loop.free();
      const answers = written.split('HTTP/1.1 200 OK').map((one) => one.replace(/[0-9a-f]+\r\n|\r\n/g, ''));
      return `${answers.join('|')} ${bench.channel.finished}`;
    };
    const whole = run([]);
    expect(whole).toContain('PUT /c: hello world');
    for (let cut = 1; cut < stream.length; cut++) expect([cut, run([cut])]).toEqual([cut, whole]);
    expect(run(Array.from({ length: stream.length - 1 }, (_, i) => i + 1))).toBe(whole);
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: stream.length - 1 }), { maxLength: 12 });
    fc.assert(
      fc.property(cuts, (some) => {
        expect(run([...some].sort((a, b) => a - b))).toBe(whole);
      }),
      { numRuns: 200 },
    );
  });
});

describe('a request body', () => {
  test('waits for whoever takes it', () => {
    const bench = new ServerBench({}, () => {});
    bench.feed(`${post(6)}abc`);
    bench.feed('def');
    expect(bench.channel.paused).toBe(true);
    bench.request().exchange.receive(bench.request());
    bench.loop.settle();
    expect([bench.request().body, bench.request().events]).toEqual(['abcdef', ['end']]);
  });

  test('stops at once where it is paused, and nothing of it is lost', () => {
    const bench = new ServerBench();
    bench.feed(`${post(9)}abc`);
    bench.request().exchange.pause();
    expect(bench.channel.paused).toBe(true);
    bench.feed('def');
    expect(bench.request().body).toBe('abc');
    bench.request().exchange.resume();
    bench.loop.settle();
    bench.feed('ghi');
    expect([bench.request().body, bench.request().events]).toEqual(['abcdefghi', ['end']]);
  });

  test('that was not begun does not hide that the client goes away', () => {
    const bench = new ServerBench({}, (asked) => {
      asked.exchange.pause();
      asked.exchange.receive(asked);
    });
    bench.feed(post(5));
    bench.channel.sendEnd();
    expect(bench.request().events[0]).toMatch(/^aborted disconnect/);
  });

  test('whose last piece was paused does not hide that the client goes away', () => {
    const bench = new ServerBench({}, (asked) => {
      asked.onRequestBody = () => asked.exchange.pause();
      asked.exchange.receive(asked);
    });
    bench.feed(`${post(3)}abc`);
    bench.channel.sendEnd();
    expect(bench.request().events[0]).toBe('end');
    expect(bench.request().events[1]).toMatch(/^aborted disconnect/);
  });

  test('comes in one piece however small its chunks, with its trailers', () => {
    const bench = new ServerBench();
    const pieces: string[] = [];
    bench.answer = (asked) => {
      asked.onRequestBody = (from, start, end) => pieces.push(from.bytes.latin1Slice(start, end));
      asked.exchange.receive(asked);
    };
    bench.feed(
      `${head('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked')}1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\nx-sum: 9\r\n\r\n`,
    );
    expect([pieces, bench.request().events]).toEqual([['abcdef'], ['end x-sum=9']]);
  });

  test.each([
    ['before the response: 400', false, /^HTTP\/1\.1 400 /, true],
    ['within the response: reset', true, /^$/, false],
  ])('that breaks the grammar ends the connection, %s', (_, responded, wanted, finished) => {
    const bench = new ServerBench();
    bench.feed(`${head('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked')}1\r\na\r\n`);
    if (responded) bench.request().exchange.respond(responseHead(CHUNKED_OK), false);
    bench.channel.take();
    expect(bench.feed('zz\r\n')).toMatch(wanted);
    expect([bench.channel.finished, bench.channel.aborted !== null]).toEqual([finished, !finished]);
    expect(bench.request().events[0]).toMatch(/^aborted protocol/);
    expect(bench.rejected).toEqual([]);
  });

  test.each([
    ['little of it is left', post(6), 'abc', 'def', true],
    [
      'little of a chunked one is left',
      head('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked'),
      '3\r\nabc\r\n',
      '0\r\n\r\n',
      true,
    ],
  ])('that was answered early is thrown away where %s', (_, request, first, rest) => {
    const bench = new ServerBench();
    bench.feed(request + first);
    bench.request().respond(OK, 'no');
    expect(bench.channel.take()).toBe(`${OK}no`);
    bench.feed(rest + GET);
    expect(bench.asked.length).toBe(2);
  });

  test('that was answered early and is long ends the connection', () => {
    const bench = new ServerBench();
    bench.feed(`${post(1_000_000)}abc`);
    bench.request().respond(OK, 'no');
    expect(bench.channel.take()).toContain('Connection: close');
    expect(bench.channel.finished).toBe(true);
  });

  test('that was answered early and does not end, ends the connection', () => {
    const bench = new ServerBench();
    bench.feed(head('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked'));
    bench.request().respond(OK, 'no');
    for (let i = 0; i < 3; i++) bench.feed(`5000\r\n${'x'.repeat(0x5000)}\r\n`);
    expect(bench.channel.finished).toBe(false);
    bench.feed(`5000\r\n${'x'.repeat(0x5000)}\r\n`);
    expect([bench.channel.finished, bench.ends.length]).toEqual([true, 1]);
  });

  test('that waits for 100 is sent after it', () => {
    const bench = new ServerBench();
    bench.feed(post(2, 'Expect: 100-continue'));
    expect(bench.request().exchange.head.get('expect')).toBe('100-continue');
    bench.request().exchange.informational(responseHead(head('HTTP/1.1 100 Continue')));
    expect(bench.channel.take()).toBe(head('HTTP/1.1 100 Continue'));
    bench.feed('ab');
    bench.request().respond(OK, 'hi');
    expect([bench.channel.take(), bench.channel.over]).toEqual([`${OK}hi`, false]);
  });

  test('that was answered without 100 may never come: nothing after it is taken for a request', () => {
    const bench = new ServerBench();
    bench.feed(post(GET.length, 'Expect: 100-continue'));
    bench.request().exchange.reply({ status: 403, headers: [], body: '' });
    expect(bench.channel.take()).toContain('Connection: close');
    bench.channel.send(GET);
    expect([bench.channel.finished, bench.asked.length]).toEqual([true, 1]);
  });
});

describe('what is refused', () => {
  test.each([
    ['both lengths', 400, head('POST / HTTP/1.1', 'Host: a', 'Content-Length: 3', 'Transfer-Encoding: chunked')],
    ['no Host', 400, head('GET / HTTP/1.1')],
    ['garbage', 400, '\x16\x03\x01\x02\x00\r\n'],
    ['a long target', 414, head(`GET /${'a'.repeat(300)} HTTP/1.1`, 'Host: a')],
    ['a long head', 431, head('GET / HTTP/1.1', 'Host: a', `X-A: ${'a'.repeat(5_000)}`)],
    ['many fields', 431, head('GET / HTTP/1.1', 'Host: a', ...Array.from({ length: 30 }, (_, i) => `x-${i}: 1`))],
    ['an unknown coding', 501, head('POST / HTTP/1.1', 'Host: a', 'Transfer-Encoding: gzip')],
    ['an unknown version', 505, head('GET / HTTP/2.0', 'Host: a')],
  ])('%s', (_, status, bytes) => {
    for (const size of [bytes.length, 7]) {
      const bench = new ServerBench();
      let written = '';
      for (let at = 0; at < bytes.length && !bench.channel.over; at += size)
        written += bench.feed(bytes.slice(at, at + size));
      expect(written.startsWith(`HTTP/1.1 ${status} `)).toBe(true);
      expect(written).toContain('Connection: close');
      expect([bench.asked.length, bench.channel.finished, bench.ends.length]).toEqual([0, true, 1]);
      expect(bench.rejected[0]?.startsWith(`${status} `)).toBe(true);
      bench.loop.free();
    }
  });

  test('what follows a refused head is not read', () => {
    const bench = new ServerBench();
    bench.feed(head('GET / HTTP/1.1') + GET);
    expect(bench.asked.length).toBe(0);
  });
});

describe('the end of a connection', () => {
  test('is said with the response where the client asked for it', () => {
    const bench = new ServerBench();
    bench.feed(head('GET / HTTP/1.1', 'Host: a', 'Connection: close'));
    bench.request().respond(OK, 'hi');
    expect(bench.channel.take()).toBe('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi');
    expect([bench.channel.finished, bench.ends]).toEqual([true, ['']]);
  });

  test('comes with the response under way where it drains', () => {
    const busy = new ServerBench();
    busy.feed(GET);
    busy.session.drain();
    expect(busy.channel.over).toBe(false);
    busy.request().respond(OK, 'hi');
    expect([busy.channel.take().includes('Connection: close'), busy.channel.finished]).toEqual([true, true]);
  });

  test('comes soon after the drain where there is no request', () => {
    const bench = new ServerBench();
    bench.session.drain();
    bench.loop.pass(900);
    expect(bench.channel.over).toBe(false);
    bench.loop.pass(200);
    expect([bench.channel.finished, bench.ends]).toEqual([true, ['drained']]);
  });

  test('comes with the response to a request that was on its way when it drained', () => {
    const bench = new ServerBench();
    bench.session.drain();
    bench.loop.pass(500);
    bench.feed(GET);
    bench.loop.pass(5_000);
    bench.request().respond(OK, 'hi');
    expect([bench.channel.take().includes('Connection: close'), bench.channel.finished]).toEqual([true, true]);
  });

  test('comes after the response that had begun before it drained', () => {
    const bench = new ServerBench();
    bench.feed(GET);
    bench.request().exchange.respond(responseHead(CHUNKED_OK), false);
    bench.session.drain();
    bench.request().exchange.finish(null);
    expect(bench.channel.finished).toBe(true);
  });

  test('answers a request that was coming when it drained', () => {
    const bench = new ServerBench();
    bench.feed(GET.slice(0, 20));
    bench.session.drain();
    bench.feed(GET.slice(20));
    bench.request().respond(OK, 'hi');
    expect(bench.channel.take()).toContain('Connection: close');
  });

  test.each([
    ['the client goes away', (bench: ServerBench) => bench.channel.sendEnd()],
    ['the channel dies', (bench: ServerBench) => bench.channel.die('ECONNRESET')],
    ['it is closed', (bench: ServerBench) => bench.session.close('policy')],
  ])('is told to the request under way where %s, once', (_, go) => {
    const bench = new ServerBench();
    bench.feed(GET);
    go(bench);
    bench.session.close('again');
    bench.request().respond(OK, 'hi');
    expect(bench.request().events.length).toBe(1);
    expect(bench.request().events[0]).toMatch(/^aborted disconnect/);
    expect([bench.channel.take(), bench.channel.aborted !== null, bench.ends.length]).toEqual(['', true, 1]);
  });

  test('is told to the handler even where it fails at a head that was refused', () => {
    const bench = new ServerBench();
    bench.onRejected = () => {
      throw new Error('a bug');
    };
    expect(() => bench.channel.send('nonsense\r\n\r\n')).toThrow('a bug');
    expect(bench.ends).toHaveLength(1);
  });

  test('is told to the handler even where the request under way fails at it', () => {
    const bench = new ServerBench();
    bench.feed(GET);
    bench.request().onRequestAborted = () => {
      throw new Error('a bug');
    };
    expect(() => bench.session.close('policy')).toThrow('a bug');
    expect(bench.ends).toEqual(['policy']);
  });

  test('is told later to whoever listens only afterwards', () => {
    const bench = new ServerBench({}, () => {});
    bench.feed(GET);
    bench.channel.die('ECONNRESET');
    const asked = bench.request();
    asked.exchange.receive(asked);
    expect(asked.events).toEqual([]);
    bench.loop.settle();
    expect(asked.events).toEqual(['aborted disconnect: ECONNRESET']);
  });

  test('between two requests, or within a head, is nobody else’s matter', () => {
    for (const begun of ['', GET.slice(0, 9)]) {
      const bench = new ServerBench();
      if (begun !== '') bench.feed(begun);
      bench.channel.sendEnd();
      expect([bench.channel.finished, bench.ends.length, bench.rejected]).toEqual([true, 1, []]);
    }
  });
});

describe('time', () => {
  test('a head that does not end in time is answered by 408', () => {
    const bench = new ServerBench();
    bench.feed(GET.slice(0, 10));
    bench.loop.pass(6_000);
    bench.feed(GET.slice(10, 12));
    bench.loop.pass(3_000);
    expect(bench.channel.over).toBe(false);
    bench.loop.pass(2_000);
    expect(bench.channel.take()).toMatch(/^HTTP\/1\.1 408 /);
    expect([bench.channel.finished, bench.rejected.length]).toEqual([true, 1]);
  });

  test('a connection without a request is closed', () => {
    const bench = new ServerBench({ keepAliveTimeoutMs: 5_000 });
    bench.loop.pass(3_000);
    bench.feed(GET);
    bench.request().respond(OK, 'hi');
    bench.loop.pass(4_000);
    expect(bench.channel.over).toBe(false);
    bench.loop.pass(2_000);
    expect([bench.channel.finished, bench.ends]).toEqual([true, ['idle']]);
  });

  test.each([
    ['whose body stops: 408', post(9), false, /^HTTP\/1\.1 408 /, 408],
    ['whose response does not begin: 504', GET, false, /^HTTP\/1\.1 504 /, 504],
    ['whose response stops: reset', GET, true, /^$/, 0],
  ])('a request %s', (_, bytes, responded, wanted, status) => {
    const bench = new ServerBench({ streamIdleTimeoutMs: 5_000 });
    bench.feed(bytes);
    if (responded) bench.request().exchange.respond(responseHead(CHUNKED_OK), false);
    bench.loop.pass(3_000);
    if (responded) bench.request().write('still there');
    else if (bytes !== GET) bench.feed('x');
    else bench.loop.pass(1_000);
    bench.loop.pass(900);
    expect(bench.channel.over).toBe(false);
    bench.channel.take();
    bench.loop.pass(5_000);
    expect(bench.channel.take()).toMatch(wanted);
    expect([bench.channel.aborted !== null, bench.request().events.length]).toEqual([responded, 1]);
    expect(bench.request().events[0]).toMatch(/^aborted timeout/);
    expect(bench.request().statusSent).toBe(status);
  });

  test('the rest of a body that nobody wants is not waited for', () => {
    const bench = new ServerBench();
    bench.feed(post(9));
    bench.request().respond(OK, 'no');
    bench.loop.pass(11_000);
    expect(bench.channel.finished).toBe(true);
  });
});

describe('a connection that becomes something else', () => {
  const UPGRADE = head('GET /chat HTTP/1.1', 'Host: a', 'Connection: Upgrade', 'Upgrade: websocket');
  const SWITCH = head('HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: upgrade');
  const CONNECT = head('CONNECT db:5432 HTTP/1.1', 'Host: db:5432');

  test.each([
    ['an upgrade', UPGRADE, SWITCH],
    ['CONNECT', CONNECT, head('HTTP/1.1 200 OK')],
  ])('%s: carries bytes both ways, those sent ahead too, and both ends', (_, request, response) => {
    const bench = new ServerBench();
    bench.feed(`${request}early `);
    expect(bench.request().body).toBe('');
    bench.request().exchange.respond(responseHead(response, bench.request().exchange.head.method), false);
    bench.loop.settle();
    expect(bench.channel.take()).toMatch(/^HTTP\/1\.1 (?:101|200) /);
    bench.feed('GET / HTTP/1.1\r\n\r\n');
    bench.request().write('bytes');
    expect([bench.request().body, bench.channel.take()]).toEqual(['early GET / HTTP/1.1\r\n\r\n', 'bytes']);
    bench.request().exchange.finish(null);
    expect([bench.channel.ended, bench.channel.over]).toEqual([true, false]);
    bench.feed(' more');
    bench.channel.sendEnd();
    expect([bench.request().body.endsWith(' more'), bench.request().events]).toEqual([true, ['end']]);
    expect([bench.channel.finished, bench.ends.length]).toEqual([true, 1]);
  });

  test('keeps its back-pressure after its answer has ended', () => {
    const bench = new ServerBench();
    bench.feed(UPGRADE);
    bench.request().exchange.respond(responseHead(SWITCH), false);
    bench.request().exchange.finish(null);
    bench.request().exchange.pause();
    bench.feed('held');
    expect(bench.request().body).toBe('');
    bench.request().exchange.resume();
    bench.loop.settle();
    expect(bench.request().body).toBe('held');
  });

  test('goes on as HTTP where the upgrade is not taken', () => {
    const bench = new ServerBench();
    bench.feed(UPGRADE);
    bench.request().respond(OK, 'no');
    bench.feed(GET);
    expect(bench.asked.length).toBe(2);
  });

  test.each([
    ['by ourselves', (asked: Asked) => asked.exchange.reply({ status: 403, headers: [], body: '' })],
    [
      'by whoever answers',
      (asked: Asked) => asked.respond(head('HTTP/1.1 502 Bad Gateway', 'Content-Length: 2'), 'no'),
    ],
  ])('ends where CONNECT is refused %s: what was sent ahead is no request', (_, refuse) => {
    const bench = new ServerBench();
    bench.feed(CONNECT + GET);
    refuse(bench.request());
    bench.loop.settle();
    expect([bench.channel.finished, bench.asked.length]).toEqual([true, 1]);
  });
});

describe('back-pressure of the response', () => {
  test('is that of the channel', () => {
    const bench = new ServerBench();
    bench.feed(GET);
    bench.request().exchange.respond(responseHead(CHUNKED_OK), false);
    bench.channel.congested = true;
    expect(bench.request().exchange.congested).toBe(true);
    bench.channel.drain();
    expect([bench.request().exchange.congested, bench.request().events]).toEqual([false, ['drain']]);
  });
});
