import { ForwardedRequest, type Forwarder } from '../../../proxy/connection/forwarded-request.ts';
import type { RequestRecord } from '../../../proxy/connection/request-record.ts';
import type {
  ClientSession,
  ClientSessionOwner,
  RequestHandler,
  ServerExchange,
} from '../../../proxy/http/exchange.ts';
import { Http1ClientSession } from '../../../proxy/http/http1/client-session.ts';
import { Http1ServerSession } from '../../../proxy/http/http1/server-session.ts';
import type { Address } from '../../../proxy/native/socket.ts';
import { Dial } from '../../../proxy/reactor/dial.ts';
import { SocketEnd } from '../../../proxy/reactor/ends.ts';
import { Listener } from '../../../proxy/reactor/listener.ts';
import { SocketChannel } from '../../../proxy/reactor/socket-channel.ts';
import type { HttpLimits } from '../../../proxy/worker/messages.ts';
import { hostLoop } from './loop-host.ts';

/** What comes to `listen` is HTTP/1 and sent on to `to`, by connections that are used again. */
export interface Http1HostStart {
  readonly listen: Address;
  readonly to: Address;
  readonly limits: HttpLimits;
}

export interface Http1Stats {
  readonly sessions: number;
  readonly upstreams: number;
  readonly dialled: number;
  /** How each request ended: the flag of its record. */
  readonly flags: readonly string[];
  readonly reads: number;
  readonly writes: number;
}

class CountingEnd extends SocketEnd {
  static reads = 0;
  static writes = 0;

  override read(address: number, length: number): number {
    CountingEnd.reads++;
    return super.read(address, length);
  }

  override write(address: number, length: number): number {
    CountingEnd.writes++;
    return super.write(address, length);
  }
}

function recordOf(flags: string[]): RequestRecord {
  const end = (flag: string): void => void flags.push(flag);
  const nothing = (): void => {};
  const record = { requestBytes: 0, responseBytes: 0, attempts: 0, grpc: false, status: 0, end };
  return Object.assign(record, {
    sent: nothing,
    answered: nothing,
    requestBody: nothing,
    responseBody: nothing,
  }) as unknown as RequestRecord;
}

hostLoop((loop, argument) => {
  const { listen, to, limits } = argument as Http1HostStart;
  const idle: ClientSession[] = [];
  const flags: string[] = [];
  let sessions = 0;
  let upstreams = 0;
  let dialled = 0;

  const owner: ClientSessionOwner = {
    onRoom: (session) => void idle.push(session),
    onSessionEnd: (session) => {
      upstreams--;
      const at = idle.indexOf(session);
      if (at >= 0) idle.splice(at, 1);
    },
  };
  const forwarder: Forwarder = {
    onResponseHead: () => {},
    onFailedBeforeResponse: () => false,
    onOver: () => {},
  };
  const forward = (exchange: ServerExchange): void => {
    const request = new ForwardedRequest(exchange, recordOf(flags), forwarder);
    const session = idle.pop();
    if (session !== undefined) {
      request.send(session);
      return;
    }
    request.wait();
    new Dial(loop, to, 0, 5_000, {
      onFailed: (reason) => request.refuse({ status: 503, headers: [], body: reason }, 'UF', reason),
      onConnected: (fd) => {
        dialled++;
        upstreams++;
        const made = new Http1ClientSession(loop, new SocketChannel(loop, new CountingEnd(fd)), owner, limits);
        if (request.over) made.retire();
        else request.send(made);
      },
    });
  };
  const handler: RequestHandler = {
    onRequest: forward,
    onRejected: ({ status }) => void flags.push(`rejected ${status}`),
    onSessionEnd: () => sessions--,
  };
  const listener = new Listener(loop, listen, {
    mayAccept: () => true,
    onPause: () => {},
    onConnection: (fd) => {
      if (!loop.watch(fd, 0, { onEvents: () => {}, onFault: () => {} })) return;
      sessions++;
      new Http1ServerSession(loop, new SocketChannel(loop, new CountingEnd(fd)), handler, limits);
    },
  });
  return {
    stats: (): Http1Stats => {
      const { reads, writes } = CountingEnd;
      return { sessions, upstreams, dialled, flags: [...flags], reads, writes };
    },
    retire: () => {
      for (const session of [...idle]) session.retire();
    },
    destroy: () => listener.close(),
  };
});
