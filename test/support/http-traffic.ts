import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TcpAddress } from './apps.ts';
import { ask, readAll } from './http-apps.ts';

export interface HttpTrafficReport {
  readonly requests: number;
  readonly failures: readonly string[];
}

export interface HttpTrafficOptions {
  readonly pauseMs?: number;
  /** Loops of each kind. */
  readonly loops?: number;
  /** A target that is declared HTTP/2. */
  readonly http2?: TcpAddress;
}

const BODY = Buffer.alloc(2_000, 0x61);

/**
 * Requests against an application that answers with 200, for as long as something is done to the mesh: over connections that live and over new
 * ones, with bodies and without, and where there is a target for it over HTTP/2. Anything but 200 is a failure.
 */
export class HttpTraffic {
  readonly #target: TcpAddress;
  readonly #failures: string[] = [];
  readonly #loops: Promise<void>[];
  readonly #agent = new http.Agent({ keepAlive: true });
  #stopping = false;
  #requests = 0;

  constructor(target: TcpAddress, { pauseMs = 5, loops = 2, http2: target2 }: HttpTrafficOptions = {}) {
    this.#target = target;
    const kinds = [
      () => this.#again('kept GET', pauseMs, () => this.#ask({ agent: this.#agent })),
      () => this.#again('kept POST', pauseMs, () => this.#ask({ agent: this.#agent, method: 'POST', body: BODY })),
      () => this.#again('new GET', pauseMs, () => this.#ask({ agent: new http.Agent({ keepAlive: false }) })),
      ...(target2 === undefined ? [] : [() => this.#http2Again(target2, pauseMs)]),
    ];
    this.#loops = kinds.flatMap((kind) => Array.from({ length: loops }, kind));
  }

  get requests(): number {
    return this.#requests;
  }

  get failures(): readonly string[] {
    return this.#failures;
  }

  async stop(): Promise<HttpTrafficReport> {
    this.#stopping = true;
    await Promise.all(this.#loops);
    this.#agent.destroy();
    return { requests: this.#requests, failures: this.#failures };
  }

  async #ask(options: http.RequestOptions & { readonly body?: Buffer }): Promise<number> {
    return (await ask(this.#target, '/traffic', options)).status;
  }

  async #again(what: string, pauseMs: number, request: () => Promise<number>): Promise<void> {
    while (!this.#stopping) {
      await request().then(
        (status) => this.#count(what, status),
        (error: unknown) => this.#fail(what, error instanceof Error ? error.message : String(error)),
      );
      await sleep(pauseMs);
    }
  }

  /** One session for all its requests; a new one after GOAWAY, as clients do. */
  async #http2Again({ address, port }: TcpAddress, pauseMs: number): Promise<void> {
    let session: http2.ClientHttp2Session | null = null;
    const request = async (method: string): Promise<number> => {
      if (session === null || session.closed || session.destroyed) {
        session = http2.connect(`http://${address}:${port}`);
        session.on('error', () => undefined);
      }
      const stream = session.request({ ':path': '/traffic', ':method': method });
      stream.end(method === 'POST' ? BODY : undefined);
      const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
      await readAll(stream);
      return Number(headers[':status']);
    };
    let turn = 0;
    await this.#again('HTTP/2', pauseMs, () => request(turn++ % 2 === 0 ? 'GET' : 'POST'));
    (session as http2.ClientHttp2Session | null)?.destroy();
  }

  #count(what: string, status: number): void {
    if (status === 200) this.#requests++;
    else this.#fail(what, `status ${status}`);
  }

  #fail(what: string, why: string): void {
    this.#failures.push(`${new Date().toISOString()} ${what}: ${why}`);
  }
}
