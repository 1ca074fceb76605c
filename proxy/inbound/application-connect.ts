import type { DataPlane } from '../connection/data-plane.ts';
import { openClientSession } from '../connection/http-sessions.ts';
import { Dial } from '../reactor/dial.ts';
import { SocketEnd } from '../reactor/ends.ts';
import { SocketChannel } from '../reactor/socket-channel.ts';
import type { Connect } from './application-pool.ts';

/** Connections to the application over sockets of the plane's loop. */
export function connectBy(plane: DataPlane): Connect {
  const { loop, config } = plane;
  return (at, protocol, owner, { onConnected, onFailed }) =>
    new Dial(loop, at, config.outbound.mark, config.limits.connectTimeoutMs, {
      onConnected: (fd) =>
        onConnected(openClientSession(plane, protocol, new SocketChannel(loop, new SocketEnd(fd)), owner)),
      onFailed,
    });
}
