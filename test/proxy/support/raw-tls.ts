import { once } from 'node:events';
import * as net from 'node:net';
import { bind } from '../../../proxy/native/library.ts';
import { NativeBuffer } from '../../../proxy/native/memory.ts';
import * as ssl from '../../../proxy/native/openssl.ts';
import { TlsContext, type TlsMaterial } from '../../../proxy/native/tls-context.ts';
import type { TcpAddress } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';

type Pointer = number;
const BIO_s_mem = bind<() => Pointer>('uintptr_t BIO_s_mem()');
const BIO_new = bind<(method: Pointer) => Pointer>('uintptr_t BIO_new(uintptr_t)');
const BIO_read = bind<(bio: Pointer, to: Pointer, most: number) => number>('int BIO_read(uintptr_t, uintptr_t, int)');
const BIO_write = bind<(bio: Pointer, from: Pointer, bytes: number) => number>(
  'int BIO_write(uintptr_t, uintptr_t, int)',
);
const SSL_set_bio = bind<(session: Pointer, input: Pointer, output: Pointer) => void>(
  'void SSL_set_bio(uintptr_t, uintptr_t, uintptr_t)',
);
const SSL_key_update = bind<(session: Pointer, kind: number) => number>('int SSL_key_update(uintptr_t, int)');

const NOT_REQUESTED = 0;
const buffer = new NativeBuffer(64 * 1024);

/** A client of mutual TLS whose records are made before they are sent: what no client of Node's can say. */
export class RawTls {
  readonly socket: net.Socket;
  readonly #context: TlsContext;
  readonly #session: Pointer;
  readonly #input = BIO_new(BIO_s_mem());
  readonly #output = BIO_new(BIO_s_mem());
  #secured = false;
  received = '';

  private constructor(at: TcpAddress, material: TlsMaterial, alpn: string) {
    this.#context = new TlsContext('client', material, [alpn]);
    this.#session = ssl.SSL_new(this.#context.pointer);
    SSL_set_bio(this.#session, this.#input, this.#output);
    ssl.SSL_set_connect_state(this.#session);
    this.socket = net.connect(at.port, at.address);
    this.socket
      .on('error', () => undefined)
      .on('connect', () => this.#advance())
      .on('data', (bytes) => this.#take(Buffer.from(bytes)));
  }

  static async connect(at: TcpAddress, material: TlsMaterial, alpn: string): Promise<RawTls> {
    const client = new RawTls(at, material, alpn);
    await eventually(() => client.#secured, { what: 'the handshake' });
    return client;
  }

  #take(bytes: Buffer): void {
    bytes.copy(buffer.bytes);
    BIO_write(this.#input, buffer.address, bytes.length);
    this.#advance();
  }

  #advance(): void {
    this.#secured ||= ssl.SSL_do_handshake(this.#session) === 1;
    this.socket.write(this.#made());
    if (!this.#secured) return;
    for (let n = this.#read(); n > 0; n = this.#read()) this.received += buffer.bytes.latin1Slice(0, n);
  }

  #read(): number {
    return ssl.SSL_read(this.#session, buffer.address, buffer.size);
  }

  /** What OpenSSL has to say so far. */
  #made(): Buffer {
    const parts: Buffer[] = [];
    for (let n = 1; n > 0; ) {
      n = BIO_read(this.#output, buffer.address, buffer.size);
      if (n > 0) parts.push(Buffer.from(buffer.bytes.subarray(0, n)));
    }
    return Buffer.concat(parts);
  }

  write(bytes: Buffer): void {
    bytes.copy(buffer.bytes);
    ssl.SSL_write(this.#session, buffer.address, bytes.length);
    this.socket.write(this.#made());
  }

  /** So many KeyUpdates (RFC 8446, 4.6.3), at once. */
  updateKeys(times: number): void {
    for (let i = 0; i < times; i++) {
      SSL_key_update(this.#session, NOT_REQUESTED);
      ssl.SSL_do_handshake(this.#session);
    }
    this.socket.write(this.#made());
  }

  async close(): Promise<void> {
    if (!this.socket.closed) {
      this.socket.destroy();
      await once(this.socket, 'close');
    }
    ssl.SSL_free(this.#session);
    this.#context.free();
  }
}
