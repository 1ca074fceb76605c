import { createServer } from 'node:net';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { SocketAddress } from '../worker/messages.ts';

/**
 * Whether the sidecar may listen at `at`. Workers bind with SO_REUSEPORT, by which a second sidecar of the same user would silently share the port
 * and its connections; a plain socket is refused while anybody else has the port.
 *
 * @throws PosternError ERR_ADDRESS_IN_USE (exit 69), ERR_NO_PRIVILEGE (77) or ERR_CANNOT_LISTEN (71).
 */
export async function probeListener(what: string, at: SocketAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const server = createServer();
  server.once('error', reject);
  server.listen({ host: at.address, port: at.port, exclusive: true }, resolve);
  try {
    await promise;
  } catch (error) {
    throw listenError(what, at, error);
  }
  await new Promise((closed) => server.close(closed));
}

/** What a failed listen means to the operator; `what` is the setting. */
export function listenError(what: string, at: SocketAddress, error: unknown): PosternError {
  const where = at.address.includes(':') ? `[${at.address}]:${at.port}` : `${at.address}:${at.port}`;
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  switch (code) {
    case 'EADDRINUSE':
      return new PosternError(
        'ERR_ADDRESS_IN_USE',
        `${what} ${where} is in use: stop what listens there (ss -ltnp), or choose another port`,
        {
          cause: error,
          exitCode: EXIT.unavailable,
        },
      );
    case 'EACCES':
    case 'EPERM':
      return new PosternError(
        'ERR_NO_PRIVILEGE',
        `${what} ${where} may not be opened: ports below 1024 need CAP_NET_BIND_SERVICE`,
        {
          cause: error,
          exitCode: EXIT.noPermission,
        },
      );
    default:
      return new PosternError(
        'ERR_CANNOT_LISTEN',
        `${what} ${where} cannot be opened (${code}): is it an address of this machine?`,
        {
          cause: error,
          exitCode: EXIT.osError,
        },
      );
  }
}
