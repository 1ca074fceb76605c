import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { connect as connectTcp } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { readAll, type Seen, tellWhatYouSaw } from './http-apps.ts';
import type { TlsFacts } from './intercepted-mesh.ts';

/*
 * An HTTP application or client for tests, as a process of its own: it may stand in another network namespace.
 *
 *   http-tool.ts serve PORT                tells each caller what it saw of the request
 *   http-tool.ts get ADDRESS PORT PATH [HEADERS]   one request (HEADERS: JSON), over TLS where HTTP_TOOL_TLS says how; prints what came of it
 *   http-tool.ts serve2, get2                      the same in HTTP/2 with prior knowledge
 */

const [mode, ...words] = process.argv.slice(2);

if (mode === 'serve') {
  const server = http.createServer(tellWhatYouSaw);
  server.listen(Number(words[0]), '::', () => process.stdout.write('listening\n'));
} else if (mode === 'serve2') {
  const server = http2.createServer();
  server.on('stream', tellWhatYouSaw2);
  server.listen(Number(words[0]), '::', () => process.stdout.write('listening\n'));
} else {
  const outcome = await (mode === 'get2' ? get2 : get)(words).catch((error: unknown) => ({
    status: 0,
    body: String(error),
  }));
  process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
}

interface Outcome {
  readonly status: number;
  readonly body: string;
}

async function get([host = '', port = '', path = '/', headers = '{}']: readonly string[]): Promise<Outcome> {
  const dialled = await dial(host, Number(port));
  const request = http.get({
    path,
    headers: { host: 'orders.shop', ...JSON.parse(headers) },
    createConnection: () => dialled,
  });
  request.setTimeout(30_000, () => request.destroy(new Error('no answer within 30 s')));
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return { status: response.statusCode ?? 0, body: (await readAll(response)).toString('latin1') };
}

async function get2([host = '', port = '', path = '/', headers = '{}']: readonly string[]): Promise<Outcome> {
  const dialled = await dial(host, Number(port));
  const session = http2.connect('http://orders.shop', { createConnection: () => dialled });
  const failed = once(session, 'error').then(([error]) => Promise.reject(error));
  const over = once(session, 'close').then(() => Promise.reject(new Error('the connection ended without an answer')));
  const stream = session.request({ ':path': path, ...JSON.parse(headers) });
  stream.setTimeout(30_000, () => stream.destroy(new Error('no answer within 30 s')));
  const [head] = (await Promise.race([once(stream, 'response'), failed, over])) as [http2.IncomingHttpHeaders];
  return { status: Number(head[':status']), body: (await readAll(stream)).toString('latin1') };
}

function tellWhatYouSaw2(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
  void readAll(stream).then((body) => {
    const { ':method': method = '', ':path': url = '' } = headers;
    const seen: Seen = { method, url, headers, body: body.toString('latin1') };
    stream.respond({ ':status': 200 });
    stream.end(JSON.stringify(seen));
  });
}

async function dial(host: string, port: number): Promise<Duplex> {
  const facts = process.env.HTTP_TOOL_TLS;
  if (facts === undefined) return connectTcp(port, host);
  const tls = JSON.parse(facts) as TlsFacts;
  const socket = connectTls({ host, port, rejectUnauthorized: false, ...tls, ALPNProtocols: [...tls.ALPNProtocols] });
  await once(socket, 'secureConnect');
  return socket;
}
