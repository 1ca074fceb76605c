import { once } from 'node:events';
import { get } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Registry } from 'prom-client';
import { expect, test, vi } from 'vitest';
import { AdminServer } from '../../../control-plane/admin/admin-server.ts';

/** What one connection is answered that asks all at once, until it ends or all has come. */
function answersTo(port: number, requests: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    let answers = '';
    socket.on('error', () => {});
    socket.on('close', () => resolve(answers));
    socket.on('data', (bytes) => {
      answers += bytes.toString();
      if (answers.split('HTTP/1.1 200').length > requests) socket.destroy();
    });
    socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(requests));
  });
}

test.each([
  ['a few requests at once are answered', 3, 3],
  ['of a thousand at once no more are looked at than a few', 1000, 4],
])('%s', async (_what, requests, most) => {
  const metrics = new Registry();
  const scrape = vi.spyOn(metrics, 'metrics');
  const server = new AdminServer({
    listen: { address: '127.0.0.1', port: 0 },
    metrics,
    status: () => Promise.reject(new Error('nobody asks')),
    statusIsLocal: true,
    notReady: () => null,
    onError: () => {},
  });
  await server.start();
  try {
    await answersTo(server.port, requests);
    expect(scrape).toHaveBeenCalledTimes(most);
  } finally {
    await server.stop();
  }
});

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
