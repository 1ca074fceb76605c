import type { Socket } from 'node:net';
import { within } from '../../support/eventually.ts';

/** What an application's end of a connection got, asked for step by step. */
export class SocketReader {
  readonly socket: Socket;
  isClosed = false;
  #chunks: Buffer[] = [];
  #length = 0;
  #ended = false;
  #wake: (() => void)[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      this.#notify();
    });
    socket.on('end', () => {
      this.#ended = true;
      this.#notify();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      this.#notify();
    });
  }

  write(data: string | Buffer): void {
    this.socket.write(data);
  }

  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Exactly `count` bytes. */
  async read(count: number): Promise<Buffer> {
    await this.#until(() => this.#length >= count, `${count} bytes`);
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(count)];
    this.#length -= count;
    return all.subarray(0, count);
  }

  /** Everything up to the other side's FIN. */
  async readToEnd(): Promise<Buffer> {
    await this.#until(() => this.#ended, 'the end');
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [];
    this.#length = 0;
    return all;
  }

  /** The other side is over, by FIN or by reset. */
  async over(): Promise<void> {
    await this.#until(() => this.#ended || this.isClosed, 'the connection to be over');
  }

  async #until(holds: () => boolean, what: string): Promise<void> {
    const waiting = async (): Promise<void> => {
      while (!holds()) {
        if (this.isClosed) throw new Error(`the connection was closed after ${this.#length} bytes, before ${what}`);
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      }
    };
    await within(waiting(), 60_000, what);
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}
