import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { within } from './eventually.ts';

/** Only what hangs takes that long; `eventually` has time for another try. */
const PATIENCE_MS = 30_000;

export interface TcpAddress {
  readonly address: string;
  readonly port: number;
}

/** An application that knows nothing of a mesh: a TCP server on 127.0.0.1. Half-closed connections stay open until its handler ends them. */
export class App implements TcpAddress {
  readonly address = '127.0.0.1';
  readonly port: number;
  readonly sockets = new Set<Socket>();
  /** Connections ever accepted. */
  accepted = 0;
  readonly #server: Server;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(handle: (socket: Socket) => void, port = 0): Promise<App> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    const bound = server.address();
    if (bound === null || typeof bound === 'string') throw new Error('no TCP address');
    const app = new App(server, bound.port);
    server.on('connection', (socket) => {
      app.accepted++;
      app.sockets.add(socket);
      socket.on('close', () => app.sockets.delete(socket));
      socket.on('error', () => undefined);
      handle(socket);
    });
    return app;
  }

  /** Ends the server and every connection. */
  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.sockets) socket.destroy();
    await once(this.#server, 'close');
  }
}

/** Sends back what it gets, and its FIN after the client's. */
export const echoApp = (port = 0): Promise<App> => App.start((socket) => socket.pipe(socket), port);

/** A TCP client that can be asked for the next bytes. */
export class Client {
  readonly socket: Socket;
  /** Resolves with the error code where the connection was reset, or null where it ended. */
  readonly closed: Promise<string | null>;
  isClosed = false;
  error: string | null = null;
  #received: Buffer[] = [];
  #length = 0;
  #ended = false;
  #wake: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#length += chunk.length;
      this.#notify();
    });
    socket.on('end', () => {
      this.#ended = true;
      this.#notify();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code ?? error.message;
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.isClosed = true;
        this.#notify();
        resolve(this.error);
      });
    });
  }

  /** Connects; what happens to the connection afterwards is seen in `read` and `closed`. */
  static async dial({ address, port }: TcpAddress): Promise<Client> {
    const client = new Client(connect({ host: address, port, allowHalfOpen: true, noDelay: true }));
    await within(once(client.socket, 'connect'), PATIENCE_MS, `a connection to ${address}:${port}`);
    return client;
  }

  get bytesReceived(): number {
    return this.#length;
  }

  write(data: string | Buffer): void {
    this.socket.write(data);
  }

  /** Sends FIN, keeps reading. */
  end(): void {
    this.socket.end();
  }

  /** Exactly `count` bytes; throws where the connection ends first. */
  async read(count: number, timeoutMs = PATIENCE_MS): Promise<Buffer> {
    const enough = async (): Promise<void> => {
      while (this.#length < count) {
        if (this.#ended || this.isClosed)
          throw new Error(`the connection ended after ${this.#length} of ${count} bytes (${this.error})`);
        await this.#more();
      }
    };
    await within(enough(), timeoutMs, `${count} bytes`);
    const all = Buffer.concat(this.#received);
    this.#received = [all.subarray(count)];
    this.#length -= count;
    return all.subarray(0, count);
  }

  /** Everything up to the server's FIN; throws where it is reset instead. */
  async readToEnd(timeoutMs = PATIENCE_MS): Promise<Buffer> {
    const ended = async (): Promise<void> => {
      while (!this.#ended) {
        if (this.isClosed) throw new Error(`the connection was not ended but ${this.error ?? 'closed'}`);
        await this.#more();
      }
    };
    await within(ended(), timeoutMs, 'the end of the connection');
    const all = Buffer.concat(this.#received);
    this.#received = [];
    this.#length = 0;
    return all;
  }

  /** Waits until the server's side is over, by FIN or by reset. */
  async over(timeoutMs = PATIENCE_MS): Promise<void> {
    const over = async (): Promise<void> => {
      while (!this.#ended && !this.isClosed) await this.#more();
    };
    await within(over(), timeoutMs, 'the connection to be closed');
  }

  /** Waits for the first byte or the end; whether there is a byte. */
  async answered(timeoutMs = PATIENCE_MS): Promise<boolean> {
    const decided = async (): Promise<void> => {
      while (this.#length === 0 && !this.#ended && !this.isClosed) await this.#more();
    };
    await within(decided(), timeoutMs, 'an answer or an end');
    return this.#length > 0;
  }

  destroy(): void {
    this.socket.destroy();
  }

  async #more(): Promise<void> {
    await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}

/** One short connection to an echo: connects, sends, gets it back, sees the FIN. Throws where anything of that fails. */
export async function ping(target: TcpAddress, text = 'ping'): Promise<void> {
  const client = await Client.dial(target);
  try {
    client.write(text);
    client.end();
    const answer = (await client.readToEnd()).toString();
    if (answer !== text) throw new Error(`sent ${JSON.stringify(text)}, got back ${JSON.stringify(answer)}`);
  } finally {
    client.destroy();
  }
}

/** Whether an echo answers through the mesh; false where the connection is closed without a byte. Throws where nobody listens or nothing comes. */
export async function isAllowed(target: TcpAddress): Promise<boolean> {
  let client: Client;
  try {
    client = await Client.dial(target);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return false;
    throw error;
  }
  try {
    client.write('?');
    return await client.answered();
  } finally {
    client.destroy();
  }
}
