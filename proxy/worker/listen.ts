import { messageOf, PosternError } from '../../mesh/errors.ts';
import { Errno, errnoName } from '../native/errno.ts';
import type { SocketAddress } from './messages.ts';

/** Opens one of the configured listeners; null: it is not wanted. @throws PosternError ERR_LISTEN, which says what to do about it */
export function openListener(what: string, at: SocketAddress | null, listen: (at: SocketAddress) => void): void {
  if (at === null) return;
  try {
    listen(at);
  } catch (error) {
    throw new PosternError('ERR_LISTEN', `${what}: cannot listen on ${at.address}:${at.port}: ${adviceFor(error)}`);
  }
}

function adviceFor(error: unknown): string {
  const code = (error as { errno?: number }).errno ?? 0;
  if (code === Errno.EADDRINUSE)
    return 'the address is in use (EADDRINUSE): end what listens there, or change the configuration';
  if (code === Errno.EACCES || code === Errno.EPERM) {
    return `no privilege (${errnoName(code)}): ports below 1024 need CAP_NET_BIND_SERVICE`;
  }
  if (code === Errno.EADDRNOTAVAIL) return 'the address is not one of this machine (EADDRNOTAVAIL)';
  return messageOf(error);
}
