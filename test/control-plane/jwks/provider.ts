import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { jwkOf, jwksText, type Signer } from '../../policy/jwt/forge.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** An identity provider on this machine: answers by path, remembers what it was asked. */
export class Provider {
  readonly asked: string[] = [];
  readonly routes = new Map<string, Handler>();
  readonly #server: http.Server;

  private constructor(server: http.Server) {
    this.#server = server;
  }

  static async start(): Promise<Provider> {
    const server = http.createServer((request, response) => provider.#answer(request, response));
    const provider = new Provider(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return provider;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  json(path: string, value: unknown): void {
    this.body(path, JSON.stringify(value));
  }

  body(path: string, text: string): void {
    this.routes.set(path, (_request, response) => response.end(text));
  }

  redirect(path: string, location: string, status = 302): void {
    this.routes.set(path, (_request, response) => response.writeHead(status, { location }).end());
  }

  status(path: string, status: number): void {
    this.routes.set(path, (_request, response) => response.writeHead(status).end('{"keys":[]}'));
  }

  keys(path: string, ...signers: readonly Signer[]): void {
    this.body(path, jwksText(...signers.map((one) => jwkOf(one))));
  }

  /** OIDC discovery of the issuer that this server is. */
  discovery(jwksUri: string, issuer = this.url): void {
    this.json('/.well-known/openid-configuration', { issuer, jwks_uri: jwksUri });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    this.asked.push(path);
    const handler = this.routes.get(path);
    if (handler === undefined) response.writeHead(404).end();
    else handler(request, response);
  }
}
