import type { Agent as HttpAgent, IncomingMessage } from 'node:http';
import https from 'node:https';

/** What became of one attempt: `taken` with the collector's answer, or not; `again`: a later attempt may fare better. */
export type Posted =
  | { readonly ok: true; readonly body: string }
  | { readonly ok: false; readonly again: boolean; readonly reason: string };

// Not by an import statement, which would load undici (see http-server.ts).
const http = process.getBuiltinModule('node:http');

const TIMEOUT_MS = 10_000;
/** Of the answer, which is a few bytes where all is well. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** Worth another attempt (OTLP 1.5, "Retryable Response Codes"). */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** One connection, kept, to the collector. */
export class CollectorClient {
  readonly #url: URL;
  readonly #agent: HttpAgent | https.Agent;

  /** @param url http or https */
  constructor(url: URL) {
    this.#url = url;
    const settings = { keepAlive: true, maxSockets: 1 };
    this.#agent = url.protocol === 'https:' ? new https.Agent(settings) : new http.Agent(settings);
  }

  /** Within 10 s, and until `signal`; never rejects. */
  post(body: string, signal: AbortSignal): Promise<Posted> {
    const { promise, resolve } = Promise.withResolvers<Posted>();
    const failed = (error: Error): void => resolve({ ok: false, again: true, reason: error.message });
    const send = this.#url.protocol === 'https:' ? https.request : http.request;
    const call = send(
      this.#url,
      {
        method: 'POST',
        agent: this.#agent,
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (response) => read(response, resolve, failed),
    );
    call.on('error', failed);
    call.end(body);
    return promise;
  }

  close(): void {
    this.#agent.destroy();
  }
}

function read(response: IncomingMessage, resolve: (posted: Posted) => void, failed: (error: Error) => void): void {
  const status = response.statusCode ?? 0;
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) response.destroy(new Error('the answer is too long'));
    else chunks.push(chunk);
  });
  response.on('error', failed);
  response.on('close', () => failed(new Error('the answer was cut short')));
  response.on('end', () => {
    if (status >= 200 && status < 300) resolve({ ok: true, body: Buffer.concat(chunks).toString() });
    else resolve({ ok: false, again: RETRYABLE.has(status), reason: `status ${status}` });
  });
}
