import { type ConnectionEvents, Http2Connection } from '../../http2/connection.ts';
import { ErrorCode } from '../../http2/frames.ts';
import type { StagingPool } from '../../http2/staging.ts';
import { ChannelTransport } from '../../http2/transport.ts';
import type { RequestHead } from '../../protocol/http-head.ts';
import type { Channel } from '../../reactor/channel.ts';
import type { Loop } from '../../reactor/loop.ts';
import type { HttpLimits } from '../../worker/messages.ts';
import type { ClientExchange, ClientSession, ClientSessionOwner, ResponseEvents } from '../exchange.ts';
import { Http2ClientExchange } from './client-exchange.ts';
import type { ExchangeStream } from './exchange-stream.ts';
import { sessionOptions } from './session-options.ts';

/** In place of an exchange that cannot be begun. */
const NOTHING: ClientExchange = {
  write: () => {},
  finish: () => {},
  abort: () => {},
  congested: false,
  pause: () => {},
  resume: () => {},
};

/** A connection to somebody who answers by HTTP/2 (prior knowledge, or ALPN). Owns the channel from the moment it is made. */
export class Http2ClientSession implements ClientSession, ConnectionEvents<ExchangeStream> {
  readonly #loop: Loop;
  readonly #limits: HttpLimits;
  readonly #owner: ClientSessionOwner;
  readonly #connection: Http2Connection<ExchangeStream>;
  #roomPlanned = false;

  constructor(loop: Loop, channel: Channel, limits: HttpLimits, staging: StagingPool, owner: ClientSessionOwner) {
    this.#loop = loop;
    this.#limits = limits;
    this.#owner = owner;
    const transport = new ChannelTransport(loop, channel);
    this.#connection = new Http2Connection(loop, transport, 'client', sessionOptions(limits, staging), this);
  }

  get room(): number {
    return this.#connection.retiring ? 0 : this.#connection.room;
  }

  get active(): number {
    return this.#connection.streamCount;
  }

  get idleSince(): number {
    return this.#connection.idleSince;
  }

  begin(head: RequestHead, ends: boolean, events: ResponseEvents): ClientExchange {
    const connection = this.#connection;
    if (connection.room === 0) {
      // It died in this very turn.
      this.#loop.later(() => events.onFailed({ kind: 'refused', detail: 'the connection takes no more requests' }));
      return NOTHING;
    }
    const exchange = connection.open(
      (id, sendWindow) => new Http2ClientExchange(connection, id, sendWindow, this.#limits, head.method, events),
    );
    exchange.begin(head, ends);
    return exchange;
  }

  retire(): void {
    this.#connection.drain();
  }

  close(detail: string): void {
    this.#connection.close(detail, ErrorCode.NO_ERROR);
  }

  // ---- from the connection ----

  /** RFC 9113, 8.4: a client has promised not to push requests, and the connection refuses streams of a server's own. */
  newStream(): ExchangeStream {
    throw new Error('a server does not open streams');
  }

  onRoom(): void {
    if (this.#roomPlanned) return;
    this.#roomPlanned = true;
    this.#loop.later(() => {
      this.#roomPlanned = false;
      if (!this.#connection.closed) this.#owner.onRoom(this);
    });
  }

  onDraining(): void {}

  /** After those whose exchanges failed just now. */
  onClosed(reason: string): void {
    this.#loop.later(() => this.#owner.onSessionEnd(this, reason));
  }
}
