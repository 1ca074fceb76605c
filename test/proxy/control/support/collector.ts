import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: string };
}

export interface ExportedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  readonly attributes: readonly Attribute[];
}

interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly ExportedSpan[] }[];
  }[];
}

const spansOf = ({ resourceSpans }: Export): ExportedSpan[] =>
  resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));

/** An OTLP collector that answers as it is told, then with 200. */
export class Collector {
  readonly requests: { readonly path: string; readonly type: string; readonly body: Export }[] = [];
  answers: (number | 'never' | 'hang up')[] = [];
  body = '{}';
  readonly #server: Server = createServer((request, response) => {
    void this.#read(request).then(() => {
      const answer = this.answers.shift() ?? 200;
      if (answer === 'never') return;
      if (answer === 'hang up') request.socket.destroy();
      else response.writeHead(answer).end(this.body);
    });
  });

  async #read(request: IncomingMessage): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString()) as Export;
    this.requests.push({ path: request.url ?? '', type: request.headers['content-type'] ?? '', body });
  }

  /** Names of the spans of each request. */
  get names(): string[][] {
    return this.requests.map(({ body }) => spansOf(body).map(({ name }) => name));
  }

  /** Of the service (`service.name` of the resource). */
  spans(service: string): ExportedSpan[] {
    const parts = this.requests.flatMap(({ body }) => body.resourceSpans);
    const isOf = ({ key, value }: Attribute): boolean => key === 'service.name' && value.stringValue === service;
    return spansOf({ resourceSpans: parts.filter(({ resource }) => resource.attributes.some(isOf)) });
  }

  /** @returns its base URL */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
