import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { PosternError } from '../../mesh/errors.ts';

// Below the kernel's ephemeral range (32768 and up by default): thousands of outgoing connections cannot take the port between choice and use.
const LOWEST = 20_000;
const HIGHEST = 32_000;
const ATTEMPTS = 50;

const given = new Set<number>();

/** A port on which nothing listens at `address`, never given out before by this process. */
export async function freePort(address = '127.0.0.1'): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = randomInt(LOWEST, HIGHEST);
    if (given.has(port) || !(await canListen(address, port))) continue;
    given.add(port);
    return port;
  }
  throw new PosternError('ERR_BENCH_PORTS', `no free port at ${address} between ${LOWEST} and ${HIGHEST}`);
}

function canListen(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, address, () => server.close(() => resolve(true)));
  });
}
