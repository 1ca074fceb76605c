import type { NativeBuffer } from '../../../proxy/native/memory.ts';
import type { Channel, ChannelHandler } from '../../../proxy/reactor/channel.ts';

class Side implements ChannelHandler {
  readonly #own: Channel;
  readonly #other: Channel;
  readonly #onOver: (detail: string) => void;
  ended = false;
  peer: Side | null = null;

  constructor(own: Channel, other: Channel, onOver: (detail: string) => void) {
    this.#own = own;
    this.#other = other;
    this.#onOver = onOver;
  }

  onData(from: NativeBuffer, start: number, end: number): void {
    this.#other.write(from, start, end);
    if (this.#other.congested) this.#own.pause();
  }

  onEnd(): void {
    this.ended = true;
    this.#other.end();
    if (this.peer?.ended === true) this.#onOver('');
  }

  onDrain(): void {
    this.#other.resume();
  }

  onClosed(detail: string): void {
    this.#other.abort(detail);
    this.#onOver(detail);
  }
}

/** Carries bytes between a stream and a socket until both have ended; what aborts one aborts the other. A stream that has ended is over by itself. */
export function pipeChannels(a: Channel, b: Channel, onOver: (detail: string) => void): void {
  const over = (detail: string): void => {
    if (detail === '') b.finish();
    onOver(detail);
  };
  const [one, other] = [new Side(a, b, over), new Side(b, a, over)];
  one.peer = other;
  other.peer = one;
  a.attach(one);
  b.attach(other);
}
