import { writeSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import {
  COUNTER_SLOTS,
  DESCRIPTOR_BITS,
  type FromWorker,
  type ToWorker,
  type WorkerConfig,
  type WorkerQuestion,
  type WorkerStart,
} from '../worker/messages.ts';
import { closeDescriptors } from './descriptors.ts';
import type { RolloutTarget } from './rollout.ts';

export interface WorkerEvents {
  readonly onMessage: (worker: WorkerHandle, message: FromWorker) => void;
  /** The thread is gone, its messages have been delivered and its descriptors are closed. Called once. */
  readonly onEnd: (worker: WorkerHandle, cause: string, descriptors: number) => void;
}

interface Question {
  readonly answer: (data: unknown) => void;
  readonly refuse: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** eventfd(2): adds 1 to the counter, which makes the descriptor readable. */
const ONE = new BigUint64Array([1n]);
/** Half of a worker's young generation, at most; it grows to that under load only. MB. */
const WORKER_SEMI_SPACE_MB = 8;
/** How long an orderly end waits for a thread that is coming up, and then for its end. */
const START_PATIENCE_MS = 5000;
const END_PATIENCE_MS = 2000;
const QUERY_DEADLINE_MS = 2000;

/** Waits for `what`, but not longer. */
async function within(what: Promise<void>, ms: number): Promise<void> {
  const limit = Promise.withResolvers<void>();
  const timer = setTimeout(limit.resolve, ms);
  await Promise.race([what, limit.promise]);
  clearTimeout(timer);
}

/** One data-plane thread and what the control thread shares with it. Owns the thread, the port and, where the thread ended by accident, its descriptors. */
export class WorkerHandle implements RolloutTarget {
  readonly index: number;
  /** By slot; see the worker's `series` messages. */
  readonly counters: Float64Array;
  readonly #descriptors: Int32Array;
  readonly #events: WorkerEvents;
  readonly #thread: Worker;
  readonly #port: MessagePort;
  readonly #questions = new Map<number, Question>();
  #lastQuestion = 0;
  /** Wakes the worker's loop; null before `ready` and after the end. */
  #eventFd: number | null = null;
  #cause: string | null = null;
  /** It is ready. */
  readonly #up = Promise.withResolvers<void>();
  /** It is gone. */
  readonly #over = Promise.withResolvers<void>();

  constructor(url: URL, config: WorkerConfig, events: WorkerEvents) {
    this.index = config.index;
    this.#events = events;
    const counters = new SharedArrayBuffer(COUNTER_SLOTS * Float64Array.BYTES_PER_ELEMENT);
    const descriptors = new SharedArrayBuffer(DESCRIPTOR_BITS / 8);
    this.counters = new Float64Array(counters);
    this.#descriptors = new Int32Array(descriptors);
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#port.on('message', (message: FromWorker) => this.#receive(message));
    const workerData: WorkerStart = { config, port: port2, counters, descriptors };
    // For the thread that comes: short-lived connections make garbage, and a young generation of 1 MB made 13 % of their cost.
    setFlagsFromString(`--max-semi-space-size=${WORKER_SEMI_SPACE_MB}`);
    this.#thread = new Worker(url, {
      workerData,
      transferList: [port2],
      name: `data-plane-${config.index}`,
      // The worker closes descriptors that it got from koffi, of which node would warn; `closeDescriptors` does node's part.
      trackUnmanagedFds: false,
    });
    this.#thread.on('error', (error) => {
      this.#cause ??= error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
    });
    this.#thread.on('exit', (code) => this.#bury(code));
  }

  get ready(): boolean {
    return this.#eventFd !== null;
  }

  send(message: ToWorker): void {
    this.#port.postMessage(message);
    this.#wake();
  }

  /** Asks the worker. @throws PosternError ERR_WORKER_SILENT where no answer comes within 2 s. */
  query(what: WorkerQuestion): Promise<unknown> {
    this.#lastQuestion += 1;
    const id = this.#lastQuestion;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => {
      this.#questions.delete(id);
      reject(
        new PosternError('ERR_WORKER_SILENT', `worker ${this.index} gave no answer within ${QUERY_DEADLINE_MS} ms`),
      );
    }, QUERY_DEADLINE_MS);
    this.#questions.set(id, { answer: resolve, refuse: reject, timer });
    this.send({ type: 'query', id, what });
    return promise;
  }

  giveUp(why: string): void {
    this.#cause ??= why;
    void this.terminate();
  }

  /**
   * Ends the thread in order, which is let come up and then asked; `onEnd` follows. Only one that does not answer is terminated: inside a native
   * call that is creating JavaScript objects, as while it binds its C functions, that would abort the process.
   */
  async end(): Promise<void> {
    this.#cause ??= 'ended';
    const over = this.#over.promise;
    await within(Promise.race([this.#up.promise, over]), START_PATIENCE_MS);
    if (this.#eventFd !== null) this.send({ type: 'drain', deadlineMs: 0 });
    await within(over, END_PATIENCE_MS);
    await this.terminate();
  }

  /** Ends the thread wherever it is; `onEnd` follows. */
  async terminate(): Promise<void> {
    this.#cause ??= 'terminated';
    const ended = this.#thread.terminate();
    // A thread is ended between two instructions of JavaScript: one that sleeps in epoll_wait(2) must be woken for it.
    this.#wake();
    await ended;
  }

  #wake(): void {
    if (this.#eventFd === null) return;
    try {
      writeSync(this.#eventFd, ONE);
    } catch {
      // EAGAIN: the counter is full, which wakes as well. EBADF: the worker is ending and its `exit` is under way.
    }
  }

  #receive(message: FromWorker): void {
    if (message.type === 'ready') {
      this.#eventFd = message.eventFd;
      this.#up.resolve();
      // What was posted between the worker's first look at its port and this moment has not been announced.
      this.#wake();
    }
    if (message.type === 'fatal') this.#cause ??= message.message;
    if (message.type === 'fatal' || message.type === 'drained') {
      // It ends: nobody reads its port any more. What it has not closed and unmarked itself, the eventfd among it, is closed at its burial.
      this.#eventFd = null;
    }
    if (message.type === 'reply') {
      const question = this.#questions.get(message.id);
      this.#questions.delete(message.id);
      clearTimeout(question?.timer);
      question?.answer(message.data);
      return;
    }
    this.#events.onMessage(this, message);
  }

  #bury(exitCode: number): void {
    // Its last words may still be in the port, behind the event that it has ended.
    for (let last = receiveMessageOnPort(this.#port); last !== undefined; last = receiveMessageOnPort(this.#port)) {
      this.#receive(last.message as FromWorker);
    }
    this.#port.close();
    this.#eventFd = null;
    for (const { refuse, timer } of this.#questions.values()) {
      clearTimeout(timer);
      refuse(new PosternError('ERR_WORKER_SILENT', `worker ${this.index} has ended`));
    }
    this.#questions.clear();
    const closed = closeDescriptors(this.#descriptors);
    this.#over.resolve();
    this.#events.onEnd(this, this.#cause ?? `exit code ${exitCode}`, closed);
  }
}
