import type { Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import type { FrameOutput } from './output.ts';
import type { Http2Stream } from './stream.ts';

export interface LivenessOptions {
  /** How often to look; the times below are kept to so much. Milliseconds, as all of them. */
  readonly checkMs: number;
  /** A peer that has a connection says its preface and SETTINGS, and ends a header block that it began, in this time. */
  readonly openingMs: number;
  /** A connection without streams is closed after it. */
  readonly idleMs: number;
  /** Nothing heard for so long while streams are open: ask by PING; 0: never (a gRPC server takes that for an attack). */
  readonly pingAfterMs: number;
  /** The peer takes no byte for so long: it is gone, or means to hold our memory. */
  readonly writeStallMs: number;
}

const PING_ANSWER_MS = 20_000;

/** What is watched of a connection. */
export interface Watched {
  readonly loop: Loop;
  readonly output: FrameOutput;
  readonly opened: boolean;
  readonly withinBlock: boolean;
  readonly streamCount: number;
  readonly closed: boolean;
  idleFor(ms: number): boolean;
  streams(): Iterable<Http2Stream>;
  relieve(): void;
  close(reason: string, code: number): void;
}

/** One coarse timer a connection: whoever does not begin, answer, read or speak in time is closed. */
export class Liveness {
  readonly #connection: Watched;
  readonly #options: LivenessOptions;
  readonly #timer = new Timer(() => this.#onCheck());
  readonly #began: number;
  /** When no header block was open last. */
  #blockSince: number;
  #lastHeard: number;
  /** When the PING that is not answered yet was sent; 0: none. */
  #pingSent = 0;

  constructor(connection: Watched, options: LivenessOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#began = connection.loop.now;
    this.#lastHeard = this.#began;
    this.#blockSince = this.#began;
    connection.loop.arm(this.#timer, options.checkMs);
  }

  /** Bytes came. */
  heard(): void {
    this.#lastHeard = this.#connection.loop.now;
  }

  /** PING was answered. */
  answered(): void {
    this.#pingSent = 0;
  }

  stop(): void {
    this.#connection.loop.cancel(this.#timer);
  }

  #onCheck(): void {
    const connection = this.#connection;
    const fault = this.#fault(connection.loop.now);
    if (fault !== null) {
      connection.close(fault, -1);
      return;
    }
    for (const stream of connection.streams()) stream.check(connection.loop.now);
    if (connection.closed) return;
    connection.relieve();
    if (connection.closed) return;
    if (connection.streamCount === 0) {
      if (connection.idleFor(this.#options.idleMs)) {
        connection.close('idle', 0);
        return;
      }
    } else this.#ask(connection.loop.now);
    if (!connection.closed) connection.loop.arm(this.#timer, this.#options.checkMs);
  }

  #fault(now: number): string | null {
    const { openingMs, writeStallMs } = this.#options;
    const { output, opened, withinBlock } = this.#connection;
    if (output.blockedSince !== 0 && now - output.blockedSince > writeStallMs) return 'peer takes no bytes';
    if (!opened && now - this.#began > openingMs) return 'the preface and SETTINGS did not come in time';
    if (!withinBlock) this.#blockSince = now;
    else if (now - this.#blockSince > openingMs) return 'a header block did not end in time';
    if (this.#pingSent !== 0 && now - this.#pingSent > PING_ANSWER_MS) return 'peer does not answer';
    return null;
  }

  #ask(now: number): void {
    const { pingAfterMs } = this.#options;
    if (pingAfterMs === 0 || this.#pingSent !== 0 || now - this.#lastHeard <= pingAfterMs) return;
    this.#pingSent = now;
    this.#connection.output.sendPing(0, 0, false);
  }
}
