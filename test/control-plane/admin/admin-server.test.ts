import { once } from 'node:events';
import { get } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { AdminServer } from '../../../control-plane/admin/admin-server.ts';

test('whoever holds as many connections as there may be does not keep a probe from another address away', async () => {
  const server = new AdminServer({
    listen: { address: '127.0.0.1', port: 0 },
    metrics: new Registry(),
    status: () => Promise.reject(new Error('nobody asks')),
    statusIsLocal: true,
    notReady: () => null,
    onError: () => {},
  });
  await server.start();
  const held: Socket[] = [];
  try {
    for (let count = 0; count < 256; count++) {
      const socket = connect({ host: '127.0.0.1', port: server.port, localAddress: '127.0.0.2' });
      socket.on('error', () => {});
      await once(socket, 'connect');
      held.push(socket);
    }
    const options = { host: '127.0.0.1', port: server.port, path: '/healthz/ready', agent: false as const };
    const status = await new Promise((resolve, reject) => {
      get(options, (response) => resolve(response.resume().statusCode)).on('error', reject);
    });
    expect(status).toBe(200);
  } finally {
    for (const socket of held) socket.destroy();
    await server.stop();
  }
});
