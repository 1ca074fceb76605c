import { ErrorCode } from '../http2/frames.ts';
import type { StreamEnd, TunnelStream } from '../tunnel/stream.ts';
import type { InboundCarrier, InboundConnection } from './inbound-connection.ts';

/** A stream of a tunnel, joined to the application's socket. */
export class StreamCarrier implements InboundCarrier {
  readonly #stream: TunnelStream;

  constructor(stream: TunnelStream) {
    this.#stream = stream;
  }

  own(connection: InboundConnection): void {
    this.#stream.owner = {
      onResponse: () => {},
      onEnd: (how: StreamEnd, detail: string) =>
        connection.end(how === 'idle' ? 'IDLE' : '-', how === 'closed' ? '' : detail),
    };
  }

  bytesForward(): number {
    return this.#stream.bytesToApplication;
  }

  bytesBack(): number {
    return this.#stream.bytesToPeer;
  }

  join(applicationFd: number): void {
    this.#stream.accept([]);
    this.#stream.attach(applicationFd);
  }

  refuse(status: 403 | 503, reason: string): void {
    this.#stream.refuse(status, [['x-postern-reason', reason]]);
  }

  cut(reason: string): void {
    this.#stream.abort(reason, ErrorCode.CANCEL);
  }
}
