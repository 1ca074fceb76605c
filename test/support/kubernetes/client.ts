import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import type { JsonObject } from '../../../policy/types.ts';
import type { StandInCluster } from './cluster.ts';

export interface Answer {
  readonly status: number;
  readonly body: JsonObject;
  readonly warnings: readonly string[];
}

export interface RequestOptions {
  readonly contentType?: string;
  readonly accept?: string;
  readonly headers?: { readonly [name: string]: string };
}

export interface WatchEvent {
  readonly type: string;
  readonly object: JsonObject;
}

/** Events of a watch as they come in. */
export interface OpenWatch {
  readonly events: readonly WatchEvent[];
  /** Whether the server has ended it. */
  readonly ended: () => boolean;
  /** Waits until so many events have come that are no bookmarks, and gives these. */
  seen(count: number): Promise<readonly WatchEvent[]>;
  close(): void;
}

/** Generous: machines that run tests are busy. */
const SEEN_WITHIN_MS = 20_000;

/** Talks plain HTTP to a stand-in, so that its tests depend on no client of ours. */
export class RawClient {
  readonly #cluster: StandInCluster;
  readonly #agent: Agent;
  readonly #token: string | null;

  /** Without a token nobody is named; the admin's is the default. */
  constructor(
    cluster: StandInCluster,
    token: string | null = cluster.adminToken,
    certificate?: { readonly cert: string; readonly key: string },
  ) {
    this.#cluster = cluster;
    this.#token = token;
    this.#agent = new Agent({ connect: { ca: cluster.ca, ...certificate } });
  }

  async call(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    body?: unknown,
    options: RequestOptions = {},
  ): Promise<Answer> {
    const response = await request(`${this.#cluster.url}${path}`, {
      method,
      dispatcher: this.#agent,
      headers: this.#headers(options, body !== undefined),
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.body.text();
    const isJson = String(response.headers['content-type']).startsWith('application/json');
    const warnings = [response.headers.warning ?? []].flat();
    return { status: response.statusCode, body: isJson ? (JSON.parse(text) as JsonObject) : { text }, warnings };
  }

  async watch(path: string, options: RequestOptions = {}): Promise<OpenWatch> {
    const over = new AbortController();
    const response = await request(`${this.#cluster.url}${path}`, {
      dispatcher: this.#agent,
      headers: this.#headers(options, false),
      signal: over.signal,
    });
    if (response.statusCode !== 200)
      throw new Error(`the watch was answered with ${response.statusCode}: ${await response.body.text()}`);
    const events: WatchEvent[] = [];
    let isOver = false;
    void (async () => {
      let rest = '';
      try {
        for await (const chunk of response.body) {
          const lines = `${rest}${String(chunk)}`.split('\n');
          rest = lines.pop() ?? '';
          for (const line of lines) events.push(JSON.parse(line) as WatchEvent);
        }
      } catch {
        // Cut off: over as well.
      }
      isOver = true;
    })();
    const seen = async (count: number): Promise<readonly WatchEvent[]> => {
      for (const deadline = Date.now() + SEEN_WITHIN_MS; Date.now() < deadline; await sleep(10)) {
        const changes = events.filter(({ type }) => type !== 'BOOKMARK');
        if (changes.length >= count) return changes;
      }
      throw new Error(`waited ${SEEN_WITHIN_MS} ms for ${count} events of ${path}; there are ${events.length}`);
    };
    return { events, ended: () => isOver, seen, close: () => over.abort() };
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  #headers(
    { contentType = 'application/json', accept = 'application/json', headers }: RequestOptions,
    hasBody: boolean,
  ): { readonly [name: string]: string } {
    return {
      accept,
      ...(hasBody ? { 'content-type': contentType } : {}),
      ...(this.#token === null ? {} : { authorization: `Bearer ${this.#token}` }),
      ...headers,
    };
  }
}
