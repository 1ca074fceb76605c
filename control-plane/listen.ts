import type { Server as HttpsServer } from 'node:https';
import type { Server } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import { formatListenAddress, type ListenAddress } from './addresses.ts';

/** What `[::]` stands for on a machine whose kernel has no IPv6: all addresses that there are. */
const WITHOUT_IPV6 = '0.0.0.0';

/** Binds a server. @throws PosternError ERR_LISTEN that names `setting`, the one to be changed. */
export async function listenOn(server: Server, listen: ListenAddress, setting: string): Promise<void> {
  try {
    await bind(server, listen);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const hasNoIpv6 = 'code' in error && error.code === 'EAFNOSUPPORT' && listen.address === '::';
    if (!hasNoIpv6) throw listenError(error, listen, setting);
    await bind(server, { ...listen, address: WITHOUT_IPV6 }).catch((second: Error) => {
      throw listenError(second, listen, setting);
    });
  }
}

function bind(server: Server, listen: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(error);
    server.once('error', fail);
    server.listen(listen.port, listen.address, () => {
      server.off('error', fail);
      resolve();
    });
  });
}

/** Who does not speak TLS is dropped, who does not speak HTTP is told so. */
export function refuseBrokenClients(server: HttpsServer): void {
  server.on('tlsClientError', (_error, socket: TLSSocket) => socket.destroy());
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    else socket.destroy();
  });
}

/** Stops accepting and ends idle connections; those with an answer in progress may end it until `deadlineMs`. */
export async function stopListening(server: HttpsServer, deadlineMs: number): Promise<void> {
  if (!server.listening) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    server.closeIdleConnections();
  });
}

function listenError(error: Error, listen: ListenAddress, setting: string): PosternError {
  const code = 'code' in error ? error.code : '';
  const where = formatListenAddress(listen);
  if (code === 'EADDRINUSE') {
    const message = `cannot listen on ${where}: the address is in use; stop the process that has it (ss -ltnp 'sport = ${listen.port}' names it) or change \`${setting}\``;
    return new PosternError('ERR_LISTEN', message, { cause: error, exitCode: EXIT.unavailable });
  }
  if (code === 'EACCES') {
    const message = `cannot listen on ${where}: not permitted; choose a port from 1024 up in \`${setting}\` or give the process CAP_NET_BIND_SERVICE`;
    return new PosternError('ERR_LISTEN', message, { cause: error, exitCode: EXIT.noPermission });
  }
  const message = `cannot listen on ${where}: ${messageOf(error)}; \`${setting}\` must be an address of this machine`;
  return new PosternError('ERR_LISTEN', message, { cause: error, exitCode: EXIT.unavailable });
}
