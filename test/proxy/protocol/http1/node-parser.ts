import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';

/** A message as a recipient understood it. */
export interface Understood {
  /** Method and target, or status. */
  readonly first: string;
  /** Without those of one connection; of trailers, too. */
  readonly fields: readonly string[];
  readonly body: string;
}

/** A connection without a network. */
class Wire extends Duplex {
  override _read(): void {}
  override _write(_chunk: unknown, _encoding: unknown, done: () => void): void {
    done();
  }
}

const ONE_CONNECTION = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'content-length',
]);

/** Fields in a form that does not depend on where they stand. */
export function comparable(
  lines: Iterable<readonly [string, string]>,
  nominated: readonly string[],
): readonly string[] {
  return [...lines]
    .filter(([name]) => !ONE_CONNECTION.has(name) && !nominated.includes(name))
    .map(([name, value]) => `${name}: ${value}`)
    .sort();
}

function understood(message: IncomingMessage, first: string, body: string): Understood {
  const raw = [...message.rawHeaders, ...message.rawTrailers];
  const lines = raw.flatMap((name, i): (readonly [string, string])[] =>
    i % 2 === 0 ? [[name.toLowerCase(), raw[i + 1] ?? '']] : [],
  );
  const nominated = (message.headers.connection ?? '').toLowerCase().split(/[\s,]+/);
  return { first, fields: comparable(lines, nominated), body };
}

/** Hears of a message that is complete. */
function collect(message: IncomingMessage, first: string, take: (one: Understood) => void): void {
  let body = '';
  message.setEncoding('latin1');
  message.on('data', (piece: string) => {
    body += piece;
  });
  message.on('error', () => {});
  message.on('end', () => {
    if (message.complete) take(understood(message, first, body));
  });
}

/** Node's server, with the defaults that it ships with. */
export class NodeServer {
  readonly #server: Server;
  #heard: Understood[] = [];

  constructor() {
    this.#server = createServer({ maxHeaderSize: 64 * 1024 }, (message) => {
      const heard = this.#heard;
      collect(message, `${message.method} ${message.url}`, (one) => heard.push(one));
    });
    this.#server.on('clientError', () => {});
  }

  /** The complete requests that it finds in what a connection brings. */
  async requestsIn(bytes: Buffer): Promise<readonly Understood[]> {
    const heard: Understood[] = [];
    this.#heard = heard;
    const wire = new Wire();
    wire.on('error', () => {});
    this.#server.emit('connection', wire);
    wire.push(bytes);
    for (let turn = 0; turn < 3; turn++) await setImmediate();
    wire.destroy();
    return heard;
  }
}

/** The complete final response that Node's client finds in what a connection brings until it ends; null: none. */
export async function nodeResponseIn(bytes: Buffer, method: string): Promise<Understood | null> {
  const wire = new Wire();
  wire.on('error', () => {});
  let heard: Understood | null = null;
  const asked = request({ createConnection: () => wire, method, path: '/', host: 'a' });
  asked.on('error', () => {});
  asked.on('upgrade', () => {});
  asked.on('response', (message) => {
    collect(message, String(message.statusCode), (one) => {
      heard = one;
    });
  });
  asked.end();
  await setImmediate();
  wire.push(bytes);
  wire.push(null);
  for (let turn = 0; turn < 3; turn++) await setImmediate();
  wire.destroy();
  return heard;
}
