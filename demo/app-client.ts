import { setTimeout as sleep } from 'node:timers/promises';
import { PosternError } from '../mesh/errors.ts';
import type { AppCommand, AppEvent, Ask, CallResult } from './app-protocol.ts';
import type { ManagedProcess } from './processes.ts';

const CALL_TIMEOUT_MS = 5000;
const PLAIN: Ask = { method: 'GET', path: '/', note: '', token: null };

export interface Target {
  readonly host: string;
  readonly port: number;
}

export interface LiveStream {
  /** The end of the stream, whoever brought it about. */
  readonly closed: Promise<CallResult>;
}

interface Pending {
  readonly opened: PromiseWithResolvers<void>;
  readonly done: PromiseWithResolvers<CallResult>;
}

/** The demo's side of an application: has it make calls, and tells what came of them. */
export class AppClient {
  readonly listening: Promise<void>;
  readonly #process: ManagedProcess;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;

  constructor(process: ManagedProcess) {
    this.#process = process;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.listening = promise;
    process.onLine((line) => {
      if (!line.startsWith('{')) return;
      const event: AppEvent = JSON.parse(line);
      if (event.type === 'listening') return resolve();
      const pending = this.#pending.get(event.id);
      if (event.type === 'open') return pending?.opened.resolve();
      this.#pending.delete(event.id);
      pending?.done.resolve(event);
    });
  }

  async call(target: Target, ask: Partial<Ask> = {}): Promise<CallResult> {
    return await this.#begin({ ...PLAIN, ...ask, ...target, stream: false }).done.promise;
  }

  /** @throws PosternError where the stream does not begin. */
  async stream(target: Target): Promise<LiveStream> {
    const { opened, done } = this.#begin({ ...PLAIN, path: '/stream', ...target, stream: true });
    const late = new AbortController();
    const timeout = sleep(CALL_TIMEOUT_MS, null, { signal: late.signal }).catch(() => null);
    const first = await Promise.race([opened.promise.then(() => 'open' as const), done.promise, timeout]);
    late.abort();
    if (first !== 'open') {
      throw new PosternError(
        'ERR_DEMO_CALL',
        `no stream to ${target.host}:${target.port}: ${first?.error ?? 'no answer in time'}`,
      );
    }
    return { closed: done.promise };
  }

  #begin(command: Omit<AppCommand, 'id' | 'timeoutMs'>): Pending {
    const id = this.#nextId++;
    const pending = { opened: Promise.withResolvers<void>(), done: Promise.withResolvers<CallResult>() };
    this.#pending.set(id, pending);
    this.#process.send(JSON.stringify({ ...command, id, timeoutMs: CALL_TIMEOUT_MS }));
    return pending;
  }
}

const IN_WORDS: { readonly [code: string]: string } = {
  '': 'connection closed',
  ECONNRESET: 'the connection was closed',
  ECONNREFUSED: 'the connection was refused',
};

/** How a call went, in a few words. */
export function outcomeOf(result: CallResult): string {
  if (result.status !== null && result.error === null) return `${result.status} in ${result.ms.toFixed(1)} ms`;
  return `no answer: ${IN_WORDS[result.error ?? ''] ?? result.error}`;
}

export const succeeded = (result: CallResult): boolean => result.status === 200 && result.error === null;
