import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type ClientOptions, KubernetesClient } from '../../../kubernetes/api/client.ts';
import type { Connection } from '../../../kubernetes/api/connection.ts';
import { ClusterAuthority } from '../../support/kubernetes/certificates.ts';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export type Answer = (asked: Asked, response: ServerResponse) => void | Promise<void>;

/** A server over TLS that answers as a test says, and remembers what it was asked. */
export interface ScriptedServer extends AsyncDisposable {
  readonly url: string;
  readonly ca: string;
  readonly asked: readonly Asked[];
  /** Ends every connection there is. */
  cut(): void;
}

/** @param names That its certificate holds. */
export async function scriptedServer(
  answer: Answer,
  names: readonly string[] = ['127.0.0.1', 'localhost'],
): Promise<ScriptedServer> {
  const authority = new ClusterAuthority();
  const asked: Asked[] = [];
  const server = createServer(authority.server(names), (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const url = new URL(request.url ?? '/', 'https://127.0.0.1');
      const one: Asked = {
        method: request.method ?? '',
        path: url.pathname,
        query: url.searchParams,
        headers: request.headers,
        body: Buffer.concat(chunks).toString('utf8'),
      };
      asked.push(one);
      void answer(one, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => server.closeAllConnections();
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ca: authority.certificate,
    asked,
    cut,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        cut();
      }),
  };
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

export function status(code: number, reason: string, message: string, details: object = {}): object {
  return { apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message, details };
}

/** With a token that may change when it is refused. */
export function connectionTo(
  { url, ca }: Pick<ScriptedServer, 'url' | 'ca'>,
  tokens: string[] = ['first-token'],
  serverName: string | null = null,
): Connection {
  const tls = { ca, serverName, client: null };
  return {
    server: url,
    namespace: 'default',
    access: async () => ({ tls, token: tokens[0] ?? null }),
    refused: () => {
      if (tokens.length > 1) tokens.shift();
    },
  };
}

export function clientOf(
  server: ScriptedServer,
  options: ClientOptions & { readonly tokens?: string[]; readonly serverName?: string } = {},
): KubernetesClient & AsyncDisposable {
  const client = new KubernetesClient(connectionTo(server, options.tokens, options.serverName), options);
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.close() });
}
