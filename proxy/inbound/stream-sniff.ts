import { SNIFF_BYTES, type SniffResult } from '../connection/sniff.ts';
import { sniffProtocol } from '../protocol/application-protocol.ts';
import type { Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import type { TunnelStream } from '../tunnel/stream.ts';

export interface StreamSniffEvents {
  onResult(result: SniffResult): void;
  /** The stream is over: there is nothing to answer. */
  onGone(): void;
}

/** As `SocketSniff`, of a stream of a tunnel that has no application yet: what comes is held by the stream anyway. */
export class StreamSniff {
  readonly #loop: Loop;
  readonly #stream: TunnelStream;
  readonly #events: StreamSniffEvents;
  readonly #deadline = new Timer(() => this.#expire());

  constructor(loop: Loop, stream: TunnelStream, timeoutMs: number, events: StreamSniffEvents) {
    this.#loop = loop;
    this.#stream = stream;
    this.#events = events;
    stream.owner = { onResponse: () => {}, onEnd: () => this.#gone() };
    stream.whenHeld = () => this.#look();
    loop.arm(this.#deadline, timeoutMs);
  }

  #look(): void {
    const held = this.#stream.peekHeld(SNIFF_BYTES);
    const result = held === null ? 'ended' : sniffProtocol(held, 0, held.length);
    if (result !== 'incomplete') this.#finish(result);
    else if (this.#stream.peerEnded) this.#finish('opaque');
  }

  #expire(): void {
    this.#finish(this.#stream.peekHeld(1) === null ? 'silent' : 'opaque');
  }

  #finish(result: SniffResult): void {
    this.#loop.cancel(this.#deadline);
    this.#stream.whenHeld = null;
    this.#stream.owner = null;
    this.#events.onResult(result);
  }

  #gone(): void {
    this.#loop.cancel(this.#deadline);
    this.#stream.whenHeld = null;
    this.#events.onGone();
  }
}
