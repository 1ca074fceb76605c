/**
 * Applications and clients for network namespaces, where the test itself is not:
 *
 *   tcp-tool.ts serve KIND PORT        KIND: echo or banner (speaks first and ends); prints `listening`
 *   tcp-tool.ts call HOST PORT TEXT    prints one line of JSON: { "answer": what came until the end, "error": null or a code }
 *   tcp-tool.ts hold HOST PORT         keeps a connection open, exchanging a byte now and then; prints the same when it is over
 */
import { connect, createServer, type Socket } from 'node:net';

const HOLD_EVERY_MS = 50;
const CALL_TIMEOUT_MS = 15_000;

function serve(kind: string, port: number): void {
  const handle = (socket: Socket): void => {
    socket.on('error', () => undefined);
    if (kind === 'banner') socket.end('banner of the application\n');
    else socket.pipe(socket);
  };
  createServer({ allowHalfOpen: true }, handle).listen(port, '::', () => process.stdout.write('listening\n'));
}

function call(host: string, port: number, text: string | null): void {
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
  let answer = '';
  let error: string | null = null;
  const timer = setTimeout(() => {
    error = 'TIMEOUT';
    socket.destroy();
  }, CALL_TIMEOUT_MS);
  socket.on('connect', () => {
    if (text !== null) {
      if (text !== '') socket.write(text);
      socket.end();
      return;
    }
    clearTimeout(timer);
    process.stdout.write('connected\n');
    const beat = setInterval(() => socket.write('.'), HOLD_EVERY_MS);
    socket.on('close', () => clearInterval(beat));
    socket.on('end', () => socket.destroy());
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
else if (mode === 'call' || mode === 'hold')
  call(words[0] ?? '', Number(words[1]), mode === 'call' ? (words[2] ?? '') : null);
else process.exit(64);
