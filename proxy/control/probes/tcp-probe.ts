import { connect } from 'node:net';
import type { TcpProbe } from '../../config-pod.ts';
import type { Outcome } from './outcome.ts';

/** Connects and closes. @throws what the connection fails of, and the reason of `signal` */
export async function probeTcp({ port }: TcpProbe, address: string, signal: AbortSignal): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const socket = connect({ host: address, port });
  const give = (): void => reject(signal.reason);
  signal.addEventListener('abort', give);
  socket.on('connect', () => resolve({ ok: true, why: 'connected' }));
  socket.on('error', reject);
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', give);
    socket.destroy();
  }
}
