import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';

/** Of one connection. No client of ours sends a request before the last one is answered; more than one is room for whoever is told of an answer late. */
const MAX_UNANSWERED = 4;
/** Longer than a stream's stall deadline, which says who it was. */
const IDLE_MS = 60_000;

/**
 * Hands the requests of a server to `handle`. A connection that pipelines requests (RFC 9112, 9.3.2), whose answers all are made and kept at once however
 * few bytes ask for them, is ended; so is one on which nothing moves for a minute or two, such as that of a peer that does not read its answer.
 */
export function serveRequests(
  server: Server | HttpsServer,
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): void {
  const unanswered = new WeakMap<Socket, number>();
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request;
    const count = (unanswered.get(socket) ?? 0) + 1;
    if (count > MAX_UNANSWERED) {
      socket.destroy();
      return;
    }
    unanswered.set(socket, count);
    response.once('close', () => unanswered.set(socket, (unanswered.get(socket) ?? 0) - 1));
    handle(request, response);
  });
  server.setTimeout(IDLE_MS);
}
