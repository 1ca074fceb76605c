import { once } from 'node:events';
import * as http from 'node:http';
import { connect as connectTcp } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { readAll, tellWhatYouSaw } from './http-apps.ts';
import type { TlsFacts } from './intercepted-mesh.ts';

/*
 * An HTTP application or client for tests, as a process of its own: it may stand in another network namespace.
 *
 *   http-tool.ts serve PORT                tells each caller what it saw of the request
 *   http-tool.ts get ADDRESS PORT PATH [HEADERS]   one request (HEADERS: JSON), over TLS where HTTP_TOOL_TLS says how; prints what came of it
 */

const [mode, ...words] = process.argv.slice(2);

if (mode === 'serve') {
  const server = http.createServer(tellWhatYouSaw);
  server.listen(Number(words[0]), '::', () => process.stdout.write('listening\n'));
} else {
  const outcome = await get(words).catch((error: unknown) => ({ status: 0, body: String(error) }));
  process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
}

async function get([host = '', port = '', path = '/', headers = '{}']: readonly string[]): Promise<{
  readonly status: number;
  readonly body: string;
}> {
  const dialled = await dial(host, Number(port));
  const request = http.get({
    path,
    headers: { host: 'orders.shop', ...JSON.parse(headers) },
    createConnection: () => dialled,
  });
  request.setTimeout(10_000, () => request.destroy(new Error('no answer within 10 s')));
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return { status: response.statusCode ?? 0, body: (await readAll(response)).toString('latin1') };
}

async function dial(host: string, port: number): Promise<Duplex> {
  const facts = process.env.HTTP_TOOL_TLS;
  if (facts === undefined) return connectTcp(port, host);
  const tls = JSON.parse(facts) as TlsFacts;
  const socket = connectTls({ host, port, rejectUnauthorized: false, ...tls, ALPNProtocols: [...tls.ALPNProtocols] });
  await once(socket, 'secureConnect');
  return socket;
}
