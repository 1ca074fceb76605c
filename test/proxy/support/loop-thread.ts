import { writeSync } from 'node:fs';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { closeDescriptors } from '../../../proxy/control/descriptors.ts';
import { within } from '../../support/eventually.ts';

/** `workerData` of a thread that hosts a loop; `loop-host.ts` is its other end. */
export interface LoopThreadData {
  readonly port: MessagePort;
  readonly descriptors: SharedArrayBuffer;
  readonly start: unknown;
}

export type ToHost = { readonly id: number; readonly command: string; readonly argument: unknown };
export type FromHost =
  | { readonly type: 'ready'; readonly eventFd: number }
  | { readonly type: 'answer'; readonly id: number; readonly answer: unknown }
  | { readonly type: 'fault'; readonly stack: string };

const ONE = new BigUint64Array([1n]);

/** The reactor's loop blocks its thread: here it has one of its own, and is asked by message, as the real data plane is. */
export class LoopThread {
  /** Exceptions that handlers let out: none is expected, ever. */
  readonly faults: string[] = [];
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #descriptors = new Int32Array(new SharedArrayBuffer(8192));
  readonly #answers = new Map<number, (answer: unknown) => void>();
  #eventFd = -1;
  #asked = 0;

  private constructor(script: URL, start: unknown, onReady: () => void) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.on('message', (message: FromHost) => {
      if (message.type === 'fault') this.faults.push(message.stack);
      else if (message.type === 'answer') this.#answers.get(message.id)?.(message.answer);
      else {
        this.#eventFd = message.eventFd;
        onReady();
      }
    });
    const workerData: LoopThreadData = {
      port: port2,
      descriptors: this.#descriptors.buffer as SharedArrayBuffer,
      start,
    };
    this.#worker = new Worker(script, { workerData, transferList: [port2] });
    this.#worker.on('error', (error) => this.faults.push(error instanceof Error ? (error.stack ?? '') : String(error)));
  }

  static async start(script: URL, start: unknown): Promise<LoopThread> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const thread = new LoopThread(script, start, resolve);
    const died = new Promise<void>((_, reject) =>
      thread.#worker.once('exit', () => reject(new Error(`the loop's thread ended: ${thread.faults.join()}`))),
    );
    await within(Promise.race([promise, died]), 60_000, 'the loop to turn');
    died.catch(() => undefined);
    return thread;
  }

  /** Descriptors that the loop owns now. */
  get descriptors(): number {
    let count = 0;
    for (const word of this.#descriptors)
      for (let bits = word >>> 0; bits !== 0; bits = (bits & (bits - 1)) >>> 0) count++;
    return count;
  }

  async ask<T>(command: string, argument: unknown = null): Promise<T> {
    const id = ++this.#asked;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.#answers.set(id, resolve);
    this.#port.postMessage({ id, command, argument } satisfies ToHost);
    writeSync(this.#eventFd, ONE);
    return (await within(promise, 60_000, `an answer to ${command}`)) as T;
  }

  /** Ends the thread; @returns how many descriptors it left besides its eventfd. */
  async stop(): Promise<number> {
    const gone = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
    this.#port.postMessage({ id: 0, command: 'stop', argument: null } satisfies ToHost);
    writeSync(this.#eventFd, ONE);
    await within(gone, 60_000, 'the loop to end');
    this.#port.close();
    return closeDescriptors(this.#descriptors) - 1;
  }
}
