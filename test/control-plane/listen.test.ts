import { createServer, Server } from 'node:net';
import { expect, test } from 'vitest';
import { listenOn } from '../../control-plane/listen.ts';

/** As on a kernel that was booted with ipv6.disable=1. */
class WithoutIpv6 extends Server {
  override listen(...args: unknown[]): this {
    if (args[1] === '::') {
      const error = Object.assign(new Error('listen EAFNOSUPPORT'), { code: 'EAFNOSUPPORT' });
      process.nextTick(() => this.emit('error', error));
      return this;
    }
    return Reflect.apply(super.listen, this, args);
  }
}

test('all addresses are those of IPv4 where the kernel has no IPv6', async () => {
  const server = new WithoutIpv6();
  await listenOn(server, { address: '::', port: 0 }, 'listen');
  expect(server.address()).toMatchObject({ address: '0.0.0.0' });
  server.close();
});

test('another address that cannot be had is an error that names the setting', async () => {
  const holder = createServer();
  await listenOn(holder, { address: '127.0.0.1', port: 0 }, 'listen');
  const address = holder.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  await expect(listenOn(createServer(), { address: '127.0.0.1', port }, 'adminListen')).rejects.toThrow(
    '`adminListen`',
  );
  holder.close();
});
