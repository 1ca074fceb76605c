import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect } from 'node:tls';
import { within } from './eventually.ts';
import type { Credentials } from './forge.ts';

/** Frame types and flags of RFC 9113, section 6. */
export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const FLAG = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function frameBytes(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** Literal header fields without indexing and without Huffman (RFC 7541, section 6.2.2): no state, any decoder reads them. */
export function literalHeaders(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), hpackString(name), hpackString(value)]));
}

/** RFC 7541, sections 5.1 and 5.2. */
function hpackString(text: string): Buffer {
  const body = Buffer.from(text, 'latin1');
  const length: number[] = [];
  if (body.length < 127) length.push(body.length);
  else {
    length.push(127);
    let rest = body.length - 127;
    for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), body]);
}

export function settingsPayload(settings: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.alloc(settings.length * 6);
  for (const [index, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  }
  return payload;
}

export function uint32(value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(value);
  return payload;
}

export interface RawHttp2Target extends Credentials {
  readonly host: string;
  readonly port: number;
  /** PEM of what the server must chain to. */
  readonly ca: string;
  readonly tls?: ConnectionOptions;
}

/** HTTP/2 with frames made by hand, and no opinion on whether they are right. */
export class RawHttp2 {
  readonly socket: Duplex;
  /** Everything received so far, in order. */
  readonly frames: Frame[] = [];
  /** Resolves when the connection is over, whoever ended it and however. */
  readonly closed: Promise<void>;
  isClosed = false;
  #rest = Buffer.alloc(0);
  #wake: (() => void)[] = [];

  private constructor(socket: Duplex) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    // A server that refuses us resets the connection: that is what many tests wait for.
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.isClosed = true;
        this.#notify();
        resolve();
      });
    });
  }

  /** Ends the handshake and sends preface and an empty SETTINGS, unless `bare`. */
  static async connect(target: RawHttp2Target, { bare = false } = {}): Promise<RawHttp2> {
    const { host, port, cert, key, ca } = target;
    const options = { host, port, cert, key, ca, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3' as const };
    // Identity is a URI SAN, which node:tls does not compare with the host name.
    const socket = connect({ ...options, checkServerIdentity: () => undefined, ...target.tls });
    await within(once(socket, 'secureConnect'), 60_000, 'the TLS handshake');
    const client = new RawHttp2(socket);
    if (!bare) client.open();
    return client;
  }

  /** Over a connection that is open already: sends preface and SETTINGS. */
  static over(socket: Duplex, settings: readonly (readonly [number, number])[] = []): RawHttp2 {
    const client = new RawHttp2(socket);
    client.open(settings);
    return client;
  }

  open(settings: readonly (readonly [number, number])[] = []): void {
    this.write(PREFACE);
    this.send(TYPE.settings, 0, 0, settingsPayload(settings));
  }

  write(bytes: Buffer): void {
    if (!this.socket.destroyed) this.socket.write(bytes);
  }

  send(type: number, flags: number, stream: number, payload?: Buffer): void {
    this.write(frameBytes(type, flags, stream, payload));
  }

  /** Asks for a tunnel to `authority`, as ztunnel does. */
  sendConnect(stream: number, authority: string, more: readonly (readonly [string, string])[] = []): void {
    const block = literalHeaders([[':method', 'CONNECT'], [':authority', authority], ...more]);
    this.send(TYPE.headers, FLAG.endHeaders, stream, block);
  }

  /** Waits for a frame (one already received counts); throws where the connection ends first. */
  async frame(wanted: (frame: Frame) => boolean, what: string, timeoutMs = 60_000): Promise<Frame> {
    return await within(this.#search(wanted, what), timeoutMs, what);
  }

  /** The answer to `sendConnect`: its `:status`, as far as a literal or the static table tells (RFC 7541, appendix A). */
  async connectStatus(stream: number): Promise<string> {
    return await this.status(stream, `the answer to CONNECT on stream ${stream}`);
  }

  /** Of the answer to a request, likewise. */
  async status(stream: number, what = `the answer on stream ${stream}`): Promise<string> {
    const answer = await this.frame(
      (frame) => frame.stream === stream && (frame.type === TYPE.headers || frame.type === TYPE.rstStream),
      what,
    );
    return answer.type === TYPE.rstStream ? `reset ${answer.payload.readUInt32BE(0)}` : statusOf(answer.payload);
  }

  /** Application bytes received on a stream. */
  data(stream: number): Buffer {
    return Buffer.concat(
      this.frames.filter((frame) => frame.type === TYPE.data && frame.stream === stream).map(({ payload }) => payload),
    );
  }

  destroy(): void {
    this.socket.destroy();
  }

  async #search(wanted: (frame: Frame) => boolean, what: string): Promise<Frame> {
    for (let seen = 0; ; ) {
      for (; seen < this.frames.length; seen++) {
        const frame = this.frames[seen];
        if (frame !== undefined && wanted(frame)) return frame;
      }
      if (this.isClosed) throw new Error(`the connection ended before ${what}`);
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  #onData(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) break;
      this.frames.push({
        type: this.#rest[3] ?? 0,
        flags: this.#rest[4] ?? 0,
        stream: this.#rest.readUInt32BE(5) & 0x7fff_ffff,
        payload: this.#rest.subarray(9, 9 + length),
      });
      this.#rest = this.#rest.subarray(9 + length);
    }
    this.#notify();
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}

const STATIC_STATUS: { readonly [index: number]: string } = {
  8: '200',
  9: '204',
  10: '206',
  11: '304',
  12: '400',
  13: '404',
  14: '500',
};

/** `:status` is the first field of every response: indexed whole, or a literal with the indexed name 8, digits as octets or in Huffman code. */
function statusOf(block: Buffer): string {
  let position = 0;
  // Dynamic table size updates may come first (RFC 7541, section 6.3).
  while (((block[position] ?? 0) & 0xe0) === 0x20) position++;
  const first = block[position] ?? 0;
  if (first & 0x80) return STATIC_STATUS[first & 0x7f] ?? `index ${first & 0x7f}`;
  const length = block[position + 1] ?? 0;
  const value = block.subarray(position + 2, position + 2 + (length & 0x7f));
  return length & 0x80 ? huffmanDigits(value) : value.toString('latin1');
}

/** The decimal digits of RFC 7541, appendix B: 0 to 2 have five bits (0x0 to 0x2), 3 to 9 have six (0x19 to 0x1f). */
function huffmanDigits(bytes: Buffer): string {
  const stream = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  let digits = '';
  for (let position = 0; position + 5 <= stream.length; ) {
    const five = Number.parseInt(stream.slice(position, position + 5), 2);
    if (five <= 2) {
      digits += five;
      position += 5;
      continue;
    }
    const six = Number.parseInt(stream.slice(position, position + 6), 2);
    if (six < 0x19 || six > 0x1f) break;
    digits += six - 0x16;
    position += 6;
  }
  return digits;
}
