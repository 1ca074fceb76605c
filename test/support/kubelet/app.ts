/**
 * A test application that knows nothing of a mesh. It serves HTTP, ends gracefully on SIGTERM as applications should, and does what lines of JSON on its
 * standard input say (AppCommand); it answers in lines of JSON (AppEvent).
 *
 *   app.ts serve PORT        app.ts job URL COUNT: asks so often, and ends with 0 where each was answered with 200
 */
import { Agent, createServer, get, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export type AppCommand =
  | { readonly do: 'get'; readonly id: number; readonly url: string; readonly timeoutMs: number }
  /** So many loops of requests, each with a pause between two, until `stop`; every other loop keeps its connection alive. */
  | { readonly do: 'load'; readonly id: number; readonly url: string; readonly loops: number; readonly pauseMs: number }
  | { readonly do: 'stop'; readonly id: number };

export interface GetResult {
  /** 0: no answer. */
  readonly status: number;
  readonly body: string;
  readonly error: string | null;
}

export interface LoadFailure {
  /** When the request began. */
  readonly at: string;
  readonly url: string;
  /** Whether its connection may have been used before. */
  readonly kept: boolean;
  readonly why: string;
}

export type AppEvent =
  | { readonly type: 'listening' }
  | ({ readonly type: 'got'; readonly id: number } & GetResult)
  | {
      readonly type: 'stopped';
      readonly id: number;
      readonly requests: number;
      readonly failures: readonly LoadFailure[];
    };

const TIMEOUT_MS = 10_000;
const MAX_FAILURES = 50;

const emit = (event: AppEvent): void => {
  process.stdout.write(`${JSON.stringify(event)}\n`);
};

function ask(url: string, agent: Agent | false, timeoutMs: number): Promise<GetResult> {
  return new Promise((resolve) => {
    const failed = (error: Error): void => resolve({ status: 0, body: '', error: error.message });
    const onAnswer = (response: IncomingMessage): void => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body, error: null })).on('error', failed);
    };
    const request = get(url, { agent, signal: AbortSignal.timeout(timeoutMs) }, onAnswer).on('error', failed);
    request.on('close', () => failed(new Error('closed')));
  });
}

interface Load {
  requests: number;
  readonly failures: LoadFailure[];
  readonly over: Promise<unknown>;
  running: boolean;
}
const loads = new Map<number, Load>();

function startLoad(command: Extract<AppCommand, { do: 'load' }>): void {
  const { promise: begun, resolve: begin } = Promise.withResolvers<Load>();
  const loop = async (index: number): Promise<void> => {
    const load = await begun;
    const agent = index % 2 === 0 ? new Agent({ keepAlive: true, maxSockets: 1 }) : false;
    while (load.running) {
      // Each with a path of its own, by which access logs can be searched.
      const url = `${command.url}?n=${load.requests++}`;
      const at = new Date().toISOString();
      const { status, error, body } = await ask(url, agent, TIMEOUT_MS);
      if (status !== 200 && load.failures.length < MAX_FAILURES) {
        load.failures.push({ at, url, kept: agent !== false, why: error ?? `${status} ${body.slice(0, 200)}` });
      }
      await sleep(command.pauseMs);
    }
    if (agent !== false) agent.destroy();
  };
  const over = Promise.all(Array.from({ length: command.loops }, (_, index) => loop(index)));
  const load: Load = { requests: 0, failures: [], over, running: true };
  loads.set(command.id, load);
  begin(load);
}

async function stopLoad(id: number): Promise<void> {
  const load = loads.get(id);
  if (load === undefined) return;
  load.running = false;
  await load.over;
  loads.delete(id);
  emit({ type: 'stopped', id, requests: load.requests, failures: load.failures });
}

function serve(port: number): void {
  const server = createServer((request, response) => {
    const caller = request.headers['x-forwarded-client-cert'] ?? null;
    const answer = (): void => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ pod: process.env.HOSTNAME, path: request.url, caller }));
    };
    if (request.url === '/slow') setTimeout(answer, 500);
    else answer();
  });
  server.keepAliveTimeout = 60_000;
  server.listen(port, '::', () => emit({ type: 'listening' }));
  process.once('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

async function job(url: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { status, error } = await ask(url, false, TIMEOUT_MS);
    if (status === 200) continue;
    process.stdout.write(`request ${i}: ${error ?? status}\n`);
    process.exit(1);
  }
}

const [mode, first = '', second = ''] = process.argv.slice(2);
if (mode === 'job') await job(first, Number(second));
else {
  serve(Number(first));
  createInterface({ input: process.stdin }).on('line', (line) => {
    const command: AppCommand = JSON.parse(line);
    if (command.do === 'load') startLoad(command);
    else if (command.do === 'stop') void stopLoad(command.id);
    else void ask(command.url, false, command.timeoutMs).then((got) => emit({ type: 'got', id: command.id, ...got }));
  });
}
