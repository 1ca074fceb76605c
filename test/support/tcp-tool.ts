/**
 * Applications and clients for network namespaces, where the test itself is not:
 *
 *   tcp-tool.ts serve KIND PORT        KIND: echo or banner (speaks first and ends); prints `listening`
 *   tcp-tool.ts call HOST PORT TEXT    sends the text and its end
 *   tcp-tool.ts end HOST PORT          sends nothing but its end
 *   tcp-tool.ts listen HOST PORT       sends nothing
 *   tcp-tool.ts tls HOST PORT TEXT     as call, over TLS with ALPN, certificate and key of environment variable TCP_TOOL_TLS (JSON)
 *   tcp-tool.ts hold HOST PORT         sends a byte now and then, until the other side ends; prints `connected` first
 *
 * Clients print one line of JSON when it is over: { "answer": what came until the end, "error": null or a code }.
 */
import { connect, createServer, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';

const HOLD_EVERY_MS = 50;
const CALL_TIMEOUT_MS = 15_000;

function serve(kind: string, port: number): void {
  const handle = (socket: Socket): void => {
    socket.on('error', () => undefined);
    if (kind === 'banner') socket.resume().end('banner of the application\n');
    else socket.pipe(socket);
  };
  createServer({ allowHalfOpen: true }, handle).listen(port, '::', () => process.stdout.write('listening\n'));
}

function call(mode: string, host: string, port: number, text: string): void {
  const options = { host, port, allowHalfOpen: true, noDelay: true };
  const tls: ConnectionOptions = JSON.parse(process.env.TCP_TOOL_TLS ?? '{}');
  const socket = mode === 'tls' ? connectTls({ ...options, ...tls, rejectUnauthorized: false }) : connect(options);
  let answer = '';
  let error: string | null = null;
  const expire = (): void => {
    error = 'TIMEOUT';
    socket.destroy();
  };
  const timer = mode === 'hold' ? undefined : setTimeout(expire, CALL_TIMEOUT_MS);
  socket.on('connect', () => {
    if (mode === 'call' || mode === 'tls') socket.end(text);
    else if (mode === 'end') socket.end();
    else if (mode === 'hold') {
      process.stdout.write('connected\n');
      const beat = setInterval(() => socket.write('.'), HOLD_EVERY_MS);
      socket.on('close', () => clearInterval(beat));
    }
  });
  socket.setEncoding('latin1');
  socket.on('data', (data: string) => {
    answer = (answer + data).slice(0, 10_000);
  });
  socket.on('end', () => socket.destroy());
  socket.on('error', (failure: NodeJS.ErrnoException) => {
    error = failure.code ?? failure.message;
  });
  socket.on('close', () => {
    clearTimeout(timer);
    process.stdout.write(`${JSON.stringify({ answer, error })}\n`);
  });
}

const [mode = '', ...words] = process.argv.slice(2);
if (mode === 'serve') serve(words[0] ?? '', Number(words[1]));
else if (['call', 'tls', 'end', 'listen', 'hold'].includes(mode))
  call(mode, words[0] ?? '', Number(words[1]), words[2] ?? '');
else process.exit(64);
