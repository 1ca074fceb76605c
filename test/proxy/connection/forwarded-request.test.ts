import { describe, expect, test } from 'vitest';
import { ForwardedRequest, type Forwarder } from '../../../proxy/connection/forwarded-request.ts';
import type { RequestRecord } from '../../../proxy/connection/request-record.ts';
import type {
  ClientExchange,
  ClientSession,
  ExchangeFailure,
  RequestEvents,
  ServerExchange,
} from '../../../proxy/http/exchange.ts';
import { Http2Fields } from '../../../proxy/http/http2/fields.ts';
import { Http2RequestHead, Http2ResponseHead } from '../../../proxy/http/http2/heads.ts';
import { NativeBuffer } from '../../../proxy/native/memory.ts';
import type { LocalReply, ResponseHead, Trailers } from '../../../proxy/protocol/http-head.ts';
import { requestHead as http1Request, responseHead as http1Response } from '../http/http1/support.ts';

const content = new NativeBuffer(4096);
const BUG = new Error('a bug');
const [NOT_COMPLETE, BODYLESS] = [false, true];

const h2Request = (method: string): Http2RequestHead =>
  new Http2RequestHead(
    { method, target: '/', authority: 'a:1', scheme: 'http', contentLength: null, receivedBytes: 0 },
    [],
  );
const h2Response = (status: number, ...lines: [string, string][]): Http2ResponseHead =>
  new Http2ResponseHead(status, null, 0, lines);
const trailersOf = (...lines: [string, string][]): Http2Fields => new Http2Fields(lines);
const namesOf = (fields: Trailers | ResponseHead | null): string[] =>
  [...(fields?.lines() ?? [])].map(([name]) => name);

/** A request between whoever asks and whoever answers, both played by the test. */
class Bench implements Forwarder {
  readonly told: string[] = [];
  readonly heads: ResponseHead[] = [];
  readonly requestTrailers: (Trailers | null)[] = [];
  readonly responseTrailers: (Trailers | null)[] = [];
  readonly faults: unknown[] = [];
  readonly request: ForwardedRequest;
  /** Throws where this is called. */
  failsAt = '';
  readonly record = {
    status: 0,
    grpc: false,
    requestBytes: 0,
    responseBytes: 0,
    attempts: 0,
    sent: () => {},
    answered: () => {},
    requestBody: () => this.#come('record.requestBody'),
    responseBody: () => this.#come('record.responseBody'),
    reportFault: (error: unknown) => void this.faults.push(error),
    end: (flag: string, detail: string) => {
      this.told.push(`end ${flag} ${detail}`.trim());
      this.#come('record.end');
    },
  };

  constructor(head: ServerExchange['head'], bodyless: boolean) {
    const asked = {
      head,
      bodyless,
      congested: false,
      receive: (_: RequestEvents) => this.#come('receive'),
      informational: (one: ResponseHead) => {
        this.#come('informational');
        this.heads.push(one);
      },
      respond: (one: ResponseHead, ends: boolean) => {
        this.told.push(`respond ${one.status}${ends ? ' ends' : ''}`);
        this.heads.push(one);
        this.#come('respond');
      },
      write: () => this.#come('write'),
      finish: (trailers: Trailers | null) => {
        this.told.push('finish');
        this.responseTrailers.push(trailers);
        this.#come('finish');
      },
      reply: ({ status }: LocalReply) => {
        this.told.push(`reply ${status}`);
        this.#come('reply');
      },
      abort: () => void this.told.push('abort'),
      pause: () => {},
      resume: () => {},
    } as ServerExchange;
    this.request = new ForwardedRequest(asked, this.record as unknown as RequestRecord, this);
  }

  #come(place: string): void {
    if (this.failsAt === place) throw BUG;
  }

  send(): void {
    const answering = {
      congested: false,
      write: () => this.#come('client.write'),
      finish: (trailers: Trailers | null) => {
        this.requestTrailers.push(trailers);
        this.#come('client.finish');
      },
      abort: () => void this.told.push('client abort'),
      pause: () => {},
      resume: () => {},
    } as ClientExchange;
    const begin = (): ClientExchange => {
      this.#come('begin');
      return answering;
    };
    this.request.send({ begin } as unknown as ClientSession);
  }

  onRequestTrailers(trailers: Trailers): void {
    trailers.remove('x-user');
  }

  onResponseHead(): void {
    this.#come('onResponseHead');
  }

  onFailedBeforeResponse(_: ExchangeFailure): boolean {
    this.#come('onFailedBeforeResponse');
    return false;
  }

  onOver(flag: string): void {
    this.told.push(`over ${flag}`);
  }
}

describe('an exception in what happens to a request', () => {
  const FAILURE: ExchangeFailure = { kind: 'reset', detail: 'gone' };
  const begun = (bench: Bench): void => bench.request.onResponse(h2Response(200), false);

  test.each<readonly [string, (bench: Bench) => void]>([
    ['begin', () => {}],
    ['receive', () => {}],
    ['record.requestBody', ({ request }) => request.onRequestBody(content, 0, 1)],
    ['client.write', ({ request }) => request.onRequestBody(content, 0, 1)],
    ['client.finish', ({ request }) => request.onRequestEnd(null)],
    ['informational', ({ request }) => request.onInformational(h2Response(103))],
    ['onResponseHead', begun],
    ['onFailedBeforeResponse', ({ request }) => request.onFailed(FAILURE)],
  ])('before the response has begun (%s) is answered by 500 at once, once', (place, happen) => {
    const bench = new Bench(h2Request('POST'), NOT_COMPLETE);
    bench.failsAt = place;
    bench.send();
    happen(bench);
    bench.request.onFailed(FAILURE);
    expect(bench.told.filter((what) => what !== 'client abort')).toEqual([
      'reply 500',
      'end - internal error',
      'over -',
    ]);
    expect([bench.faults, bench.record.status]).toEqual([[BUG], 500]);
  });

  test.each<readonly [string, (bench: Bench) => void]>([
    ['respond', begun],
    ['record.responseBody', (bench) => [begun(bench), bench.request.onResponseBody(content, 0, 1)]],
    ['write', (bench) => [begun(bench), bench.request.onResponseBody(content, 0, 1)]],
    ['finish', (bench) => [begun(bench), bench.request.onResponseEnd(null)]],
  ])('after it has begun (%s) resets what cannot be completed', (place, happen) => {
    const bench = new Bench(h2Request('GET'), BODYLESS);
    bench.failsAt = place;
    bench.send();
    happen(bench);
    expect(bench.told.slice(-4)).toEqual(['client abort', 'abort', 'end - internal error', 'over -']);
    expect(bench.faults).toEqual([BUG]);
  });

  test.each(['reply', 'record.end'])('at its very end (%s) keeps nobody from forgetting it', (place) => {
    const bench = new Bench(h2Request('GET'), BODYLESS);
    bench.failsAt = place;
    bench.request.fail(new Error('the first'));
    expect(bench.told.filter((what) => what === 'over -')).toHaveLength(1);
    expect([bench.request.over, bench.faults.length]).toEqual([true, 2]);
  });
});

describe('what is passed on besides the two heads', () => {
  test('request trailers lose what only sidecars say, and what the forwarder takes out', () => {
    const bench = new Bench(h2Request('POST'), NOT_COMPLETE);
    bench.send();
    bench.request.onRequestEnd(
      trailersOf(['x-forwarded-client-cert', 'a'], ['x_envoy_peer_metadata', 'a'], ['x-user', 'a'], ['x-sum', '7']),
    );
    expect(bench.requestTrailers.map(namesOf)).toEqual([['x-sum']]);
  });

  test('response trailers and interim heads lose what heads lose', () => {
    const lines: [string, string][] = [
      ['x-postern-reason', 'a'],
      ['x_postern_reason', 'a'],
      ['x-envoy-peer-metadata', 'a'],
      ['x-sum', '7'],
    ];
    const bench = new Bench(h2Request('GET'), BODYLESS);
    bench.send();
    bench.request.onInformational(h2Response(103, ...lines));
    bench.request.onResponse(h2Response(200, ...lines), false);
    bench.request.onResponseEnd(trailersOf(...lines));
    expect(bench.heads.map(namesOf)).toEqual([['x-sum'], ['x-sum']]);
    expect(bench.responseTrailers.map(namesOf)).toEqual([['x-sum']]);
  });
});

describe('a request that ends under way', () => {
  test.each([0, 408])('is told of with the status that was sent in its place (%i)', (status) => {
    const bench = new Bench(h2Request('POST'), NOT_COMPLETE);
    bench.send();
    bench.request.onRequestAborted('no body', 'timeout', status);
    expect([bench.record.status, bench.told]).toEqual([status, ['client abort', 'end SI no body', 'over SI']]);
  });
});

describe('CONNECT', () => {
  const opened = (bench: Bench): void => bench.request.onResponse(h2Response(200), false);

  test.each<readonly [string, boolean, (bench: Bench) => void]>([
    ['had nothing to say', BODYLESS, opened],
    ['ended before the answer', NOT_COMPLETE, (bench) => [bench.request.onRequestEnd(null), opened(bench)]],
    ['ended after the answer', NOT_COMPLETE, (bench) => [opened(bench), bench.request.onRequestEnd(null)]],
    ['has not ended', NOT_COMPLETE, opened],
  ])('in HTTP/2 is over when the answer is, where whoever asked %s', (_, bodyless, happen) => {
    const bench = new Bench(h2Request('CONNECT'), bodyless);
    bench.send();
    happen(bench);
    bench.request.onResponseEnd(null);
    expect(bench.told.slice(-2)).toEqual(['end -', 'over -']);
  });

  test('in HTTP/1.1 is over when both directions have ended', () => {
    const bench = new Bench(http1Request('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'), BODYLESS);
    bench.send();
    bench.request.onResponse(http1Response('HTTP/1.1 200 OK\r\n\r\n', 'CONNECT'), false);
    bench.request.onResponseEnd(null);
    expect(bench.request.over).toBe(false);
    bench.request.onRequestEnd(null);
    expect(bench.told.slice(-2)).toEqual(['end -', 'over -']);
  });
});
