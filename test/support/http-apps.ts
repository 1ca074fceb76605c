import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { TcpAddress } from './apps.ts';

/** What an application saw of a request, as it tells it. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: { readonly [name: string]: string | string[] | undefined };
  readonly body: string;
}

/** An application that knows nothing of a mesh: a server of Node's on 127.0.0.1. */
export interface HttpApp extends TcpAddress {
  /** Connections ever accepted. */
  readonly accepted: number;
  /** Requests ever seen. */
  readonly requests: number;
  /** Ends every connection and stops listening. */
  close(): Promise<void>;
}

class NodeApp implements HttpApp {
  readonly address = '127.0.0.1';
  readonly port: number;
  accepted = 0;
  requests = 0;
  readonly #server: http.Server | http2.Http2Server;
  readonly #sockets = new Set<Socket>();

  constructor(server: http.Server | http2.Http2Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket: Socket) => {
      this.accepted++;
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    // For HTTP/2 `request` would bring in node's compatibility layer, which sends trailers of its own.
    if (server instanceof http.Server) server.on('request', () => this.requests++);
    else server.on('stream', () => this.requests++);
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

export type Http1Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

export async function http1App(handler: Http1Handler, port = 0): Promise<HttpApp & { readonly server: http.Server }> {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, handler);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(new NodeApp(server), { server });
}

export type Http2Handler = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;

export async function http2App(handler: Http2Handler): Promise<HttpApp> {
  const server = http2.createServer();
  server.on('stream', handler);
  server.on('sessionError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return new NodeApp(server);
}

export async function readAll(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Answers with what it saw, as JSON. */
export const tellWhatYouSaw: Http1Handler = (request, response) => {
  void readAll(request).then((body) => {
    const { method = '', url = '', headers } = request;
    const seen: Seen = { method, url, headers, body: body.toString('latin1') };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(seen));
  });
};

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly trailers: NodeJS.Dict<string>;
}

/** One request by Node's own client. */
export async function ask(
  target: TcpAddress,
  path: string,
  options: http.RequestOptions & { readonly body?: string | Buffer } = {},
): Promise<Answer> {
  const { body, ...rest } = options;
  const request = http.request({ host: target.address, port: target.port, path, ...rest });
  request.setTimeout(30_000, () => request.destroy(new Error(`no answer to ${path} within 30 s`)));
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  // An answer that breaks off is told by the response as well.
  request.on('error', () => undefined);
  const received = await readAll(response);
  const { statusCode: status = 0, headers, trailers } = response;
  return { status, headers, body: received, trailers };
}

/** What the application behind says that it saw. */
export async function askWhatYouSaw(
  target: TcpAddress,
  path: string,
  options: http.RequestOptions & { readonly body?: string } = {},
): Promise<Seen> {
  const { status, body } = await ask(target, path, options);
  if (status !== 200) throw new Error(`${path} answers ${status}: ${body.toString()}`);
  return JSON.parse(body.toString()) as Seen;
}
