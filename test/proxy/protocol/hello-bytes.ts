import { createServer } from 'node:net';
import { type ConnectionOptions, connect } from 'node:tls';

/** The first bytes that node:tls really sends for these options: a ClientHello in one record. */
export function captureHello(options: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const server = createServer((socket) => {
      socket.on('error', reject);
      socket.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        const bytes = Buffer.concat(chunks);
        if (bytes.length < 5 || bytes.length < 5 + bytes.readUInt16BE(3)) return;
        socket.destroy();
        server.close(() => resolve(bytes));
      });
    });
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') return reject(new Error('no TCP address'));
      connect({ ...options, host: '127.0.0.1', port: address.port }).on('error', () => undefined);
    });
  });
}

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
export const sized16 = (body: Buffer): Buffer => Buffer.concat([u16(body.length), body]);
export const sized8 = (body: Buffer): Buffer => Buffer.concat([Buffer.from([body.length]), body]);
export const extension = (type: number, body: Buffer): Buffer => Buffer.concat([u16(type), sized16(body)]);

export const alpnExtension = (...names: string[]): Buffer =>
  extension(16, sized16(Buffer.concat(names.map((name) => sized8(Buffer.from(name, 'latin1'))))));

export const sniExtension = (name: string): Buffer =>
  extension(0, sized16(Buffer.concat([Buffer.from([0]), sized16(Buffer.from(name, 'latin1'))])));

/** A handshake message of type ClientHello; `extensions` null leaves the field out. */
export function helloMessage(extensions: readonly Buffer[] | null): Buffer {
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32, 7),
    sized8(Buffer.alloc(0)),
    sized16(Buffer.from([0x13, 0x01])),
    sized8(Buffer.from([0])),
    ...(extensions === null ? [] : [sized16(Buffer.concat(extensions))]),
  ]);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length);
  header[0] = 1;
  return Buffer.concat([header, body]);
}

export const record = (body: Buffer): Buffer => Buffer.concat([Buffer.from([0x16, 3, 1]), sized16(body)]);

/** The message over records that each carry at most `size` bytes of it. */
export function inRecords(message: Buffer, size: number): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) records.push(record(message.subarray(at, at + size)));
  return Buffer.concat(records);
}
