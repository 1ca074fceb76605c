import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { PosternError } from '../../mesh/errors.ts';
import { BULK_BYTES, BULK_PATH } from './backend.ts';
import type { Endpoint } from './contender.ts';

const TICK_MS = 2;
const READ_BYTES = 64 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * A download on one connection that reads at a steady rate and leaves the rest to back-pressure, as a slow consumer does.
 * (Rate limits of curl and nginx would not do: they move a whole second's worth at once.)
 */
export class BulkFlow {
  readonly #socket: Socket;
  readonly #wantedPerSecond: number;
  #started = performance.now();
  readonly #timer: NodeJS.Timeout;
  #failure: Error | null = null;
  #read = 0;
  #paused = false;

  private constructor(target: Endpoint, bytesPerSecond: number) {
    this.#wantedPerSecond = bytesPerSecond;
    this.#socket = connect({
      host: target.address,
      port: target.port,
      noDelay: true,
      // One buffer for all reads: a new one for each would make the garbage collector part of every latency measured meanwhile.
      onread: { buffer: Buffer.alloc(READ_BYTES), callback: (count) => this.#receive(count) },
    });
    this.#socket.on('error', (cause) => this.#fail(cause));
    this.#socket.on('end', () => this.#fail(new PosternError('ERR_BENCH_LOAD', 'the bulk flow was cut off')));
    this.#timer = setInterval(() => this.#resume(), TICK_MS);
  }

  /** Asks for as much as `seconds` at this rate need, all at once: pipelining keeps the flow from pausing between files. */
  static async open(target: Endpoint, bytesPerSecond: number, seconds: number): Promise<BulkFlow> {
    const flow = new BulkFlow(target, bytesPerSecond);
    try {
      await once(flow.#socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
    } catch (cause) {
      flow.close();
      throw cause;
    }
    const files = Math.ceil((bytesPerSecond * seconds) / BULK_BYTES) + 1;
    flow.#socket.write(`GET ${BULK_PATH} HTTP/1.1\r\nHost: bench\r\n\r\n`.repeat(files));
    flow.#started = performance.now();
    return flow;
  }

  /** Bytes a second so far. @throws PosternError ERR_BENCH_LOAD where the flow broke. */
  bytesPerSecond(): number {
    if (this.#failure !== null) throw this.#failure;
    return (this.#read * 1000) / (performance.now() - this.#started);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.removeAllListeners('end');
    this.#socket.destroy();
  }

  #allowance(): number {
    return ((performance.now() - this.#started) * this.#wantedPerSecond) / 1000;
  }

  /** Whether to read on. */
  #receive(count: number): boolean {
    this.#read += count;
    this.#paused = this.#read > this.#allowance();
    return !this.#paused;
  }

  #resume(): void {
    if (!this.#paused || this.#read > this.#allowance()) return;
    this.#paused = false;
    this.#socket.resume();
  }

  #fail(cause: Error): void {
    this.#failure ??= cause;
  }
}
