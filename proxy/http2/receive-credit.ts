import { MIN_MAX_FRAME } from './frames.ts';
import type { FrameOutput } from './output.ts';
import type { Http2Stream } from './stream.ts';

/**
 * The receive window of a whole connection. It is given back on receipt, so that a slow reader blocks its own stream alone, unless the streams
 * together hold too much: that bounds the memory of a connection to twice the window or so. Where the peer can send nothing any more because of that,
 * and it stays so, those who hold the most have to go: NEVER does a stream that holds nothing wait for them without end.
 */
export class ReceiveCredit {
  readonly #output: FrameOutput;
  readonly #window: number;
  readonly #maxBacklog: number;
  #left: number;
  #uncredited = 0;
  /** It was not given back when it was last worth it: the streams hold too much. */
  withheld = false;
  /** The peer had no window at the last check, and has got none since. */
  #stuck = false;

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
    this.#stuck = false;
  }

  /**
   * Called now and then. @returns whether the peer has been without a window since the last call: whoever reads at all had taken everything by now
   */
  checkStuck(): boolean {
    const before = this.#stuck;
    this.#stuck = this.withheld && this.#left < MIN_MAX_FRAME;
    return before && this.#stuck;
  }

  /** Of streams that together hold too much, the one that holds the most; null: they do not. */
  greediest<S extends Http2Stream>(streams: Iterable<S>): S | null {
    let greediest: S | null = null;
    let backlog = 0;
    for (const stream of streams) {
      backlog += stream.backlogBytes;
      if (stream.backlogBytes > (greediest?.backlogBytes ?? 0)) greediest = stream;
    }
    return backlog > this.#maxBacklog ? greediest : null;
  }
}
