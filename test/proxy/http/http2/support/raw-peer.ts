import { HpackDecoder } from '../../../../../proxy/protocol/hpack/decoder.ts';
import {
  FLAG,
  frameBytes,
  literalHeaders,
  PREFACE,
  settingsPayload,
  TYPE,
  uint32,
} from '../../../../support/http2-raw.ts';
import type { FakeChannel } from './fake-channel.ts';
import type { FakeLoop } from './fake-loop.ts';

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
  /** Of HEADERS, with what CONTINUATION added. */
  readonly headers: readonly (readonly [string, string])[];
}

export const REQUEST: readonly (readonly [string, string])[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'orders.shop:8080'],
];
export const POST = [[':method', 'POST'] as const, ...REQUEST.slice(1)];

/** The other side of a channel: frames by hand, with no opinion on whether they are right. */
export class RawPeer {
  readonly frames: SeenFrame[] = [];
  readonly #loop: FakeLoop;
  readonly #channel: FakeChannel;
  readonly #decoder = new HpackDecoder();
  #rest = Buffer.alloc(0);
  #block: { readonly flags: number; readonly stream: number; parts: Buffer[] } | null = null;
  #prefaceLeft: boolean;

  constructor(loop: FakeLoop, channel: FakeChannel, role: 'client' | 'server') {
    this.#loop = loop;
    this.#channel = channel;
    this.#prefaceLeft = role === 'server';
  }

  /** Preface, SETTINGS, and a large window for the connection. */
  open(settings: readonly (readonly [number, number])[] = [], isClient = true): void {
    const parts = [frameBytes(TYPE.settings, 0, 0, settingsPayload(settings))];
    if (isClient) parts.unshift(PREFACE);
    this.bytes(Buffer.concat(parts));
  }

  bytes(bytes: Buffer): void {
    this.#channel.receive(bytes);
    this.read();
  }

  send(type: number, flags: number, stream: number, payload?: Buffer): void {
    this.bytes(frameBytes(type, flags, stream, payload));
  }

  headers(stream: number, fields: readonly (readonly [string, string])[], ends = true): void {
    this.send(TYPE.headers, FLAG.endHeaders | (ends ? FLAG.endStream : 0), stream, literalHeaders(fields));
  }

  data(stream: number, bytes: Buffer | string, ends = false): void {
    this.send(TYPE.data, ends ? FLAG.endStream : 0, stream, Buffer.from(bytes));
  }

  window(stream: number, increment: number): void {
    this.send(TYPE.windowUpdate, 0, stream, uint32(increment));
  }

  /** Lets the loop settle and takes apart what was written. */
  read(): void {
    this.#loop.settle();
    this.#rest = Buffer.concat([this.#rest, this.#channel.take()]);
    if (this.#prefaceLeft && this.#rest.length >= PREFACE.length) {
      if (!this.#rest.subarray(0, PREFACE.length).equals(PREFACE)) throw new Error('no preface');
      this.#rest = this.#rest.subarray(PREFACE.length);
      this.#prefaceLeft = false;
    }
    while (this.#rest.length >= 9 && this.#rest.length >= 9 + this.#rest.readUIntBE(0, 3)) {
      const end = 9 + this.#rest.readUIntBE(0, 3);
      this.#frame(
        this.#rest[3] ?? 0,
        this.#rest[4] ?? 0,
        this.#rest.readUInt32BE(5),
        Buffer.from(this.#rest.subarray(9, end)),
      );
      this.#rest = this.#rest.subarray(end);
    }
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type !== TYPE.headers && type !== TYPE.continuation) {
      this.frames.push({ type, flags, stream, payload, headers: [] });
      return;
    }
    this.#block ??= { flags, stream, parts: [] };
    this.#block.parts.push(payload);
    if ((flags & FLAG.endHeaders) === 0) return;
    const whole = Buffer.concat(this.#block.parts);
    const decoded = this.#decoder.decode(whole, 0, whole.length, 1e6, 10_000);
    if (decoded.kind !== 'headers') throw new Error(`a header block is ${decoded.kind}`);
    this.frames.push({
      type: TYPE.headers,
      flags: this.#block.flags,
      stream,
      payload: whole,
      headers: decoded.headers,
    });
    this.#block = null;
  }

  of(type: number, stream?: number): readonly SeenFrame[] {
    return this.frames.filter((frame) => frame.type === type && (stream === undefined || frame.stream === stream));
  }

  /** Codes of RST_STREAM for that stream. */
  resets(stream: number): readonly number[] {
    return this.of(TYPE.rstStream, stream).map(({ payload }) => payload.readUInt32BE(0));
  }

  /** Codes of GOAWAY. */
  goaways(): readonly number[] {
    return this.of(TYPE.goaway).map(({ payload }) => payload.readUInt32BE(4));
  }

  body(stream: number): Buffer {
    return Buffer.concat(this.of(TYPE.data, stream).map(({ payload }) => payload));
  }

  /** Whether the stream was ended by the session. */
  ended(stream: number): boolean {
    return this.frames.some(
      (frame) =>
        frame.stream === stream &&
        (frame.type === TYPE.data || frame.type === TYPE.headers) &&
        (frame.flags & FLAG.endStream) !== 0,
    );
  }

  /** :status of each header block. */
  statuses(stream: number): readonly string[] {
    return this.of(TYPE.headers, stream).flatMap(({ headers }) =>
      headers.filter(([name]) => name === ':status').map(([, value]) => value),
    );
  }
}
