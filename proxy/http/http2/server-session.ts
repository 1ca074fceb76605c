import { type ConnectionEvents, Http2Connection } from '../../http2/connection.ts';
import { ErrorCode } from '../../http2/frames.ts';
import type { StagingPool } from '../../http2/staging.ts';
import { ChannelTransport } from '../../http2/transport.ts';
import type { RequestHead } from '../../protocol/http-head.ts';
import type { Channel } from '../../reactor/channel.ts';
import type { Loop } from '../../reactor/loop.ts';
import type { HttpLimits } from '../../worker/messages.ts';
import type { RequestHandler, ServerExchange, ServerSession } from '../exchange.ts';
import type { ExchangeStream } from './exchange-stream.ts';
import { Http2ServerExchange, type ServerExchangeOwner } from './server-exchange.ts';
import { sessionOptions } from './session-options.ts';

/** A connection of somebody who asks by HTTP/2 (prior knowledge, or ALPN). Owns the channel from the moment it is made. */
export class Http2ServerSession implements ServerSession, ServerExchangeOwner, ConnectionEvents<ExchangeStream> {
  readonly limits: HttpLimits;
  readonly #loop: Loop;
  readonly #handler: RequestHandler;
  readonly #connection: Http2Connection<ExchangeStream>;

  constructor(loop: Loop, channel: Channel, limits: HttpLimits, staging: StagingPool, handler: RequestHandler) {
    this.limits = limits;
    this.#loop = loop;
    this.#handler = handler;
    const transport = new ChannelTransport(loop, channel);
    this.#connection = new Http2Connection(loop, transport, 'server', sessionOptions(limits, staging), this);
  }

  get active(): number {
    return this.#connection.streamCount;
  }

  /** GOAWAY, twice (RFC 9113, 6.8); ends when no stream is left. */
  drain(): void {
    this.#connection.drain();
  }

  close(detail: string): void {
    this.#connection.close(detail, ErrorCode.NO_ERROR);
  }

  // ---- from the exchanges ----

  onRequest(exchange: ServerExchange): void {
    try {
      this.#handler.onRequest(exchange);
    } catch (error) {
      this.#report(error);
      if (exchange instanceof Http2ServerExchange && exchange.responded) exchange.abort('internal error');
      else exchange.reply({ status: 500, headers: [], body: '' });
    }
  }

  onRejected(status: number, detail: string, head: RequestHead | null): void {
    try {
      this.#handler.onRejected({ status, detail, head });
    } catch (error) {
      this.#report(error);
    }
  }

  /** The loop tells of it; the connection goes on. */
  #report(error: unknown): void {
    this.#loop.later(() => {
      throw error;
    });
  }

  // ---- from the connection ----

  newStream(id: number, sendWindow: number): ExchangeStream {
    return new Http2ServerExchange(this.#connection, id, sendWindow, this);
  }

  onRoom(): void {}

  onDraining(): void {}

  /** After those whose exchanges were aborted just now. */
  onClosed(reason: string): void {
    this.#loop.later(() => this.#handler.onSessionEnd(reason));
  }
}
