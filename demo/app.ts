/**
 * A small application that knows nothing of a mesh: an HTTP server, and calls to others over plain TCP when it is told to by lines of JSON on
 * its standard input. It ends when that does.
 */
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import type { AppCommand, AppEvent } from './app-protocol.ts';

/** A stream sends a line this often, so that both ends notice a cut. Milliseconds. */
const STREAM_INTERVAL_MS = 50;
const LARGEST_ANSWER = 64 * 1024;

const { values } = parseArgs({
  options: { name: { type: 'string' }, listen: { type: 'string' }, port: { type: 'string' } },
});
const name = values.name ?? 'app';

const emit = (event: AppEvent): void => {
  process.stdout.write(`${JSON.stringify(event)}\n`);
};

function serve(host: string, port: number): void {
  const server = createServer((request, response) => {
    if (request.url === '/stream') {
      response.writeHead(200, { 'content-type': 'text/plain' });
      let count = 0;
      const timer = setInterval(() => response.write(`${name} ${++count}\n`), STREAM_INTERVAL_MS);
      response.once('close', () => clearInterval(timer));
      return;
    }
    const { method, url: path, headers } = request;
    const caller = headers['x-forwarded-client-cert'] ?? null;
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(`${JSON.stringify({ service: name, method, path, caller, note: headers['x-note'] ?? null })}\n`);
  });
  server.listen(port, host, () => emit({ type: 'listening' }));
}

function call(command: AppCommand): void {
  const started = performance.now();
  let settled = false;
  let open = false;
  const finish = (event: { readonly status?: number; readonly body?: string; readonly error?: string }): void => {
    if (settled) return;
    settled = true;
    const { status = null, body = '', error = null } = event;
    const ms = performance.now() - started;
    emit({ type: 'done', id: command.id, status, body, error, ms, at: Date.now() });
  };
  const onAnswer = (response: IncomingMessage): void => {
    const status = response.statusCode ?? 0;
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (text: string) => {
      if (command.stream && !open) {
        open = true;
        emit({ type: 'open', id: command.id });
      }
      if (body.length < LARGEST_ANSWER) body += text;
    });
    response.on('end', () => finish({ status, body }));
    response.on('error', (error) => finish({ status, body, error: error.message }));
    // Ended by the other side in the middle of the answer.
    response.on('aborted', () => finish({ status, body, error: 'connection closed' }));
  };
  const { host, port, method, path, note, token } = command;
  const headers = { 'x-note': note, ...(token === null ? {} : { authorization: `Bearer ${token}` }) };
  // A connection for each call: what is shown is the decision on this one, not on one that was kept alive.
  const request = httpRequest({ host, port, method, path, headers, agent: false }, onAnswer).end();
  if (!command.stream) request.setTimeout(command.timeoutMs, () => request.destroy(new Error('no answer in time')));
  request.on('error', (error: NodeJS.ErrnoException) => finish({ error: error.code ?? error.message }));
}

if (values.listen !== undefined) serve(values.listen, Number(values.port));
else emit({ type: 'listening' });

const input = createInterface({ input: process.stdin });
input.on('line', (line) => call(JSON.parse(line)));
input.on('close', () => process.exit(0));
