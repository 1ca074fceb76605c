import { once } from 'node:events';
import http from 'node:http';
import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CollectedBytes } from '../../control-plane/collected-bytes.ts';
import { readJsonBody } from '../../control-plane/server/body.ts';
import { eventually } from '../support/eventually.ts';

test('what was added in pieces is there in one, or nothing of it beyond the limit', () => {
  const piece = fc.uint8Array({ maxLength: 5_000 });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.nat(20_000), (pieces, limit) => {
      const collected = new CollectedBytes(limit);
      let length = 0;
      for (const one of pieces) {
        length += one.length;
        expect(collected.add(one)).toBe(length <= limit);
      }
      expect(collected.length).toBe(length);
      expect(collected.bytes.equals(length <= limit ? Buffer.concat(pieces) : Buffer.alloc(0))).toBe(true);
    }),
  );
});

test('a body that comes byte by byte costs its bytes, not an object for each', async () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage: unknown = runInNewContext('gc');
  if (typeof collectGarbage !== 'function') throw new Error('no garbage collector');
  const pieces: WeakRef<Buffer>[] = [];
  let body: Promise<unknown> | null = null;
  const server = http.createServer((request, response) => {
    request.on('data', (piece: Buffer) => pieces.push(new WeakRef(piece)));
    body = readJsonBody(request);
    void body.then(() => response.end('read'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const socket = connect(typeof address === 'object' && address !== null ? address.port : 0, '127.0.0.1');
  try {
    socket.write('POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\n"\r\n');
    socket.write('1\r\nx\r\n'.repeat(1000));
    await eventually(() => pieces.length === 1001, { what: 'the pieces' });
    await eventually(
      () => {
        collectGarbage();
        return pieces.filter((piece) => piece.deref() !== undefined).length < 100;
      },
      { what: 'the pieces to be given back' },
    );
    socket.end('1\r\n"\r\n0\r\n\r\n');
    await expect(body).resolves.toBe('x'.repeat(1000));
  } finally {
    socket.destroy();
    server.close();
  }
});
