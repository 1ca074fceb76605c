import type {
  ClientExchange,
  ClientSession,
  ClientSessionOwner,
  ExchangeFailure,
  RequestEvents,
  ResponseEvents,
  ServerExchange,
} from '../../../../../proxy/http/exchange.ts';
import { Http2ClientSession } from '../../../../../proxy/http/http2/client-session.ts';
import { Http2ServerSession } from '../../../../../proxy/http/http2/server-session.ts';
import { StagingPool } from '../../../../../proxy/http2/staging.ts';
import type { NativeBuffer } from '../../../../../proxy/native/memory.ts';
import type { Address } from '../../../../../proxy/native/socket.ts';
import type { ResponseHead, Trailers } from '../../../../../proxy/protocol/http-head.ts';
import { Dial } from '../../../../../proxy/reactor/dial.ts';
import { SocketEnd } from '../../../../../proxy/reactor/ends.ts';
import { Listener } from '../../../../../proxy/reactor/listener.ts';
import type { Loop } from '../../../../../proxy/reactor/loop.ts';
import { SocketChannel } from '../../../../../proxy/reactor/socket-channel.ts';
import { hostLoop } from '../../../support/loop-host.ts';
import { LIMITS } from './recorders.ts';

/** A proxy for HTTP/2: a server session for each connection to `listen`, and one client session to `backend`. */
export interface ProxyHostStart {
  readonly listen: Address;
  readonly backend: Address;
}

export interface ProxyStats {
  readonly sessions: number;
  readonly serverStreams: number;
  readonly clientStreams: number;
  readonly failures: readonly string[];
}

const failures: string[] = [];

/** Joins the two exchanges of a request, with back-pressure both ways. */
class Join implements RequestEvents, ResponseEvents {
  readonly #server: ServerExchange;
  #client: ClientExchange | null = null;
  #responded = false;

  constructor(server: ServerExchange) {
    this.#server = server;
  }

  send(session: ClientSession): void {
    this.#client = session.begin(this.#server.head, this.#server.bodyless, this);
    this.#server.receive(this);
  }

  onRequestBody(from: NativeBuffer, start: number, end: number): void {
    this.#client?.write(from, start, end);
    if (this.#client?.congested === true) this.#server.pause();
  }

  onRequestEnd(trailers: Trailers | null): void {
    this.#client?.finish(trailers);
  }

  onResponseDrain(): void {
    this.#client?.resume();
  }

  onRequestAborted(detail: string, fault: string): void {
    failures.push(`request ${fault}: ${detail}`);
    this.#client?.abort(detail);
  }

  onInformational(head: ResponseHead): void {
    this.#server.informational(head);
  }

  onResponse(head: ResponseHead, ends: boolean): void {
    this.#responded = true;
    this.#server.respond(head, ends);
    if (ends) this.#client?.abort('answered');
  }

  onResponseBody(from: NativeBuffer, start: number, end: number): void {
    this.#server.write(from, start, end);
    if (this.#server.congested) this.#client?.pause();
  }

  onResponseEnd(trailers: Trailers | null): void {
    this.#server.finish(trailers);
    this.#client?.abort('answered');
  }

  onRequestDrain(): void {
    this.#server.resume();
  }

  onFailed({ kind, detail }: ExchangeFailure): void {
    failures.push(`response ${kind}: ${detail}`);
    if (this.#responded) this.#server.abort(detail);
    else this.#server.reply({ status: 503, headers: [], body: kind });
  }
}

class ProxyHost implements ClientSessionOwner {
  readonly sessions = new Set<Http2ServerSession>();
  client: Http2ClientSession | null = null;
  readonly #loop: Loop;
  readonly #backend: Address;
  readonly #staging = new StagingPool();
  readonly #listener: Listener;
  #waiting: ServerExchange[] = [];

  constructor(loop: Loop, start: ProxyHostStart) {
    this.#loop = loop;
    this.#backend = start.backend;
    this.#listener = new Listener(loop, start.listen, {
      mayAccept: () => true,
      onPause: () => {},
      onConnection: (fd) => {
        if (!loop.watch(fd, 0, { onEvents: () => {}, onFault: () => {} })) return;
        const channel = new SocketChannel(loop, new SocketEnd(fd));
        const session = new Http2ServerSession(loop, channel, LIMITS, this.#staging, {
          onRequest: (exchange) => this.onRequest(exchange),
          onRejected: ({ status, detail }) => failures.push(`rejected ${status}: ${detail}`),
          onSessionEnd: () => this.sessions.delete(session),
        });
        this.sessions.add(session);
      },
    });
  }

  onRequest(exchange: ServerExchange): void {
    if (this.client !== null && this.client.room > 0) {
      new Join(exchange).send(this.client);
      return;
    }
    this.#waiting.push(exchange);
    if (this.client === null && this.#waiting.length === 1) this.#dial();
  }

  #dial(): void {
    new Dial(this.#loop, this.#backend, 0, 5_000, {
      onFailed: (reason) => failures.push(`dial: ${reason}`),
      onConnected: (fd) => {
        const channel = new SocketChannel(this.#loop, new SocketEnd(fd));
        this.client = new Http2ClientSession(this.#loop, channel, LIMITS, this.#staging, this);
        this.onRoom();
      },
    });
  }

  onRoom(): void {
    while (this.client !== null && this.client.room > 0 && this.#waiting.length > 0) {
      const exchange = this.#waiting.shift();
      if (exchange !== undefined) new Join(exchange).send(this.client);
    }
  }

  onSessionEnd(): void {
    this.client = null;
  }

  destroy(): void {
    this.#listener.close();
    for (const session of this.sessions) session.close('the test is over');
    this.client?.close('the test is over');
  }
}

hostLoop((loop, start) => {
  const host = new ProxyHost(loop, start as ProxyHostStart);
  return {
    stats: (): ProxyStats => ({
      sessions: host.sessions.size,
      serverStreams: [...host.sessions].reduce((sum, { active }) => sum + active, 0),
      clientStreams: host.client?.active ?? 0,
      failures: [...failures],
    }),
    drain: () => {
      for (const session of host.sessions) session.drain();
    },
    destroy: () => host.destroy(),
  };
});
