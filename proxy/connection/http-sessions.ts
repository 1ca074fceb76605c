import type { ClientSession, ClientSessionOwner, RequestHandler, ServerSession } from '../http/exchange.ts';
import { Http1ClientSession } from '../http/http1/client-session.ts';
import { Http1ServerSession } from '../http/http1/server-session.ts';
import { Http2ClientSession } from '../http/http2/client-session.ts';
import { Http2ServerSession } from '../http/http2/server-session.ts';
import type { Channel } from '../reactor/channel.ts';
import type { DataPlane } from './data-plane.ts';

/** A connection keeps its version from one end of the mesh to the other. */
export type HttpProtocol = 'http/1' | 'h2';

/** A connection of whoever asks. The session owns the channel. */
export function openServerSession(
  plane: DataPlane,
  protocol: HttpProtocol,
  channel: Channel,
  handler: RequestHandler,
): ServerSession {
  const { loop, config, staging } = plane;
  if (protocol === 'h2') return new Http2ServerSession(loop, channel, config.http, staging, handler);
  return new Http1ServerSession(loop, channel, handler, config.http);
}

/** A connection to whoever answers. The session owns the channel. */
export function openClientSession(
  plane: DataPlane,
  protocol: HttpProtocol,
  channel: Channel,
  owner: ClientSessionOwner,
): ClientSession {
  const { loop, config, staging } = plane;
  if (protocol === 'h2') return new Http2ClientSession(loop, channel, config.http, staging, owner);
  return new Http1ClientSession(loop, channel, owner, config.http);
}
