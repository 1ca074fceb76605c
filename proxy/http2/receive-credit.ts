import type { FrameOutput } from './output.ts';
import type { Http2Stream } from './stream.ts';

/**
 * The receive window of a whole connection. It is given back on receipt, so that a slow reader blocks its own stream alone, unless the streams
 * together hold too much: that bounds the memory of a connection to twice the window or so.
 */
export class ReceiveCredit {
  readonly #output: FrameOutput;
  readonly #window: number;
  readonly #maxBacklog: number;
  #left: number;
  #uncredited = 0;
  /** It was not given back when it was last worth it: the streams hold too much. */
  withheld = false;

  constructor(output: FrameOutput, window: number, maxBacklog: number) {
    this.#output = output;
    this.#window = window;
    this.#maxBacklog = maxBacklog;
    this.#left = window;
  }

  /** @returns false where the peer sent more than it may. */
  take(bytes: number): boolean {
    this.#left -= bytes;
    this.#uncredited += bytes;
    return this.#left >= 0;
  }

  /** Gives back what is worth a frame. */
  give(streams: Iterable<Http2Stream>): void {
    if (this.#uncredited < this.#window / 4) return;
    let backlog = 0;
    for (const stream of streams) backlog += stream.backlogBytes;
    this.withheld = backlog > this.#maxBacklog;
    if (this.withheld) return;
    this.#left += this.#uncredited;
    this.#output.sendWindowUpdate(0, this.#uncredited);
    this.#uncredited = 0;
  }
}
