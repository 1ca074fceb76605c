import type { DataPlane } from '../connection/data-plane.ts';
import { type ByteEnd, SocketEnd } from '../reactor/ends.ts';
import { Relay } from '../reactor/relay.ts';
import type { InboundCarrier, InboundConnection } from './inbound-connection.ts';

/** A peer's socket, relayed to the application. */
export class SocketCarrier implements InboundCarrier {
  readonly #plane: DataPlane;
  readonly #end: ByteEnd;
  #connection: InboundConnection | null = null;
  #relay: Relay | null = null;
  /** Read from the peer already; null once it was handed on. */
  #prefix: Buffer | null;

  constructor(plane: DataPlane, end: ByteEnd, prefix: Buffer | null) {
    this.#plane = plane;
    this.#end = end;
    this.#prefix = prefix;
  }

  own(connection: InboundConnection): void {
    this.#connection = connection;
  }

  bytesForward(): number {
    return this.#relay?.bytesForward ?? 0;
  }

  bytesBack(): number {
    return this.#relay?.bytesBack ?? 0;
  }

  join(applicationFd: number): void {
    const { loop, config } = this.#plane;
    const events = {
      onEnd: (how: string, detail: string) => this.#connection?.end(how === 'idle' ? 'IDLE' : '-', detail),
    };
    const application = new SocketEnd(applicationFd);
    this.#relay = new Relay(loop, this.#end, application, config.limits.idleTimeoutMs, events, this.#prefix);
    this.#prefix = null;
  }

  refuse(): void {
    this.#end.release(true);
    this.#plane.loop.close(this.#end.fd);
  }

  cut(reason: string): void {
    this.#relay?.close('aborted', reason);
  }
}
