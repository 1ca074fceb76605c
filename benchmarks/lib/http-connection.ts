import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { PosternError } from '../../mesh/errors.ts';
import { SMALL_PATH } from './backend.ts';
import type { Endpoint } from './contender.ts';

const REQUEST = Buffer.from(`GET ${SMALL_PATH} HTTP/1.1\r\nHost: bench\r\n\r\n`);
/** More than an answer; what arrives in several pieces is counted all the same. */
const READ_BYTES = 1024;
const CONNECT_TIMEOUT_MS = 10_000;
const HEAD_END = '\r\n\r\n';

/**
 * A kept-alive HTTP/1.1 connection for small requests, one at a time. The first answer is parsed; all later ones have its length (the same page, and a date of
 * fixed width), so that receiving one costs a comparison.
 */
export class HttpConnection {
  readonly #socket: Socket;
  readonly #onAnswer: (connection: HttpConnection) => void;
  readonly #onFailure: (cause: Error) => void;
  #answerBytes = 0;
  #received = 0;
  #head: string | null = '';

  private constructor(
    target: Endpoint,
    onAnswer: (connection: HttpConnection) => void,
    onFailure: (cause: Error) => void,
  ) {
    this.#onAnswer = onAnswer;
    this.#onFailure = onFailure;
    // A buffer of its own for all reads: garbage collection would show as latency.
    const buffer = Buffer.alloc(READ_BYTES);
    this.#socket = connect({
      host: target.address,
      port: target.port,
      noDelay: true,
      onread: {
        buffer,
        callback: (count) => {
          this.#receive(buffer, count);
          return true;
        },
      },
    });
    this.#socket.on('error', onFailure);
    this.#socket.on('end', () => onFailure(new PosternError('ERR_BENCH_LOAD', 'the connection was closed under load')));
  }

  /** Opens a connection, within 10 seconds. `onFailure` may be called more than once, and also for what `open` itself rejects with. */
  static async open(
    target: Endpoint,
    onAnswer: (connection: HttpConnection) => void,
    onFailure: (cause: Error) => void,
  ): Promise<HttpConnection> {
    const connection = new HttpConnection(target, onAnswer, onFailure);
    try {
      await once(connection.#socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
    } catch (cause) {
      connection.close();
      throw cause;
    }
    return connection;
  }

  /** Sends one request; the answer to the one before must have come. */
  send(): void {
    this.#received = 0;
    this.#socket.write(REQUEST);
  }

  /** Whether both directions are still there. */
  get isOpen(): boolean {
    return this.#socket.readyState === 'open';
  }

  close(): void {
    this.#socket.removeAllListeners('end');
    this.#socket.destroy();
  }

  #receive(buffer: Buffer, count: number): void {
    this.#received += count;
    if (this.#head !== null) {
      this.#head += buffer.toString('latin1', 0, count);
      this.#answerBytes = answerLength(this.#head);
      if (this.#answerBytes < 0) {
        this.#onFailure(new PosternError('ERR_BENCH_LOAD', `not the answer expected: ${this.#head.slice(0, 200)}`));
        return;
      }
    }
    if (this.#answerBytes === 0 || this.#received < this.#answerBytes) return;
    this.#head = null;
    this.#onAnswer(this);
  }
}

/** Bytes of a whole answer, by its head: 0 while the head is incomplete, -1 where it is not a 200 with a Content-Length. */
export function answerLength(head: string): number {
  const end = head.indexOf(HEAD_END);
  if (end < 0) return head.length > 16_384 ? -1 : 0;
  const length = /^content-length: (\d+)\r$/im.exec(head.slice(0, end + 2))?.[1];
  return head.startsWith('HTTP/1.1 200 ') && length !== undefined ? end + HEAD_END.length + Number(length) : -1;
}

/** Opens `count` connections, a few at a time, each of which has carried one request when this resolves. */
export async function openConnections(target: Endpoint, count: number): Promise<readonly HttpConnection[]> {
  const open: HttpConnection[] = [];
  try {
    while (open.length < count) {
      const batch = Array.from({ length: Math.min(50, count - open.length) }, () => openWarm(target));
      const settled = await Promise.allSettled(batch);
      for (const one of settled) if (one.status === 'fulfilled') open.push(one.value);
      for (const one of settled) if (one.status === 'rejected') throw one.reason;
    }
    return open;
  } catch (cause) {
    for (const connection of open) connection.close();
    throw cause;
  }
}

async function openWarm(target: Endpoint): Promise<HttpConnection> {
  const answered = Promise.withResolvers<void>();
  answered.promise.catch(() => undefined); // where connecting fails, `open` tells and nobody awaits this
  const timer = setTimeout(
    () => answered.reject(new PosternError('ERR_BENCH_LOAD', 'no answer on a new connection within 10 s')),
    CONNECT_TIMEOUT_MS,
  );
  try {
    const connection = await HttpConnection.open(target, () => answered.resolve(), answered.reject);
    connection.send();
    try {
      await answered.promise;
    } catch (cause) {
      connection.close();
      throw cause;
    }
    return connection;
  } finally {
    clearTimeout(timer);
  }
}
