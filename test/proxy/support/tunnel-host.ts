import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { StagingPool } from '../../../proxy/http2/staging.ts';
import { EPOLLIN } from '../../../proxy/native/epoll.ts';
import type { Address } from '../../../proxy/native/socket.ts';
import { TlsContext, type TlsMaterial } from '../../../proxy/native/tls-context.ts';
import { parseConnectAuthority } from '../../../proxy/protocol/connect-authority.ts';
import { Dial } from '../../../proxy/reactor/dial.ts';
import { SocketEnd } from '../../../proxy/reactor/ends.ts';
import { Listener } from '../../../proxy/reactor/listener.ts';
import type { Loop } from '../../../proxy/reactor/loop.ts';
import { SocketChannel } from '../../../proxy/reactor/socket-channel.ts';
import { TlsHandshake } from '../../../proxy/reactor/tls-handshake.ts';
import type { TunnelStream } from '../../../proxy/tunnel/stream.ts';
import { StreamSocket } from '../../../proxy/tunnel/stream-socket.ts';
import { Tunnel, type TunnelEvents, type TunnelOptions } from '../../../proxy/tunnel/tunnel.ts';
import { pipeChannels } from './channel-pipe.ts';
import { hostLoop } from './loop-host.ts';

/** Two ends of tunnels in one loop: what comes to `listen` goes through a tunnel to `tunnel`, and from there to what CONNECT names. */
export interface TunnelHostStart {
  readonly tunnel: Address;
  readonly serverMaterial: TlsMaterial;
  readonly listen: Address;
  /** Where the client's tunnels go: `tunnel`, or another server. */
  readonly to: Address;
  readonly clientMaterial: TlsMaterial;
  /** CONNECT's destinations: the next is tried where one answers 503. */
  readonly authorities: readonly string[];
  readonly maxStreams: number;
  readonly streamIdleMs: number;
  /** Applications are not dialled before `dial` is asked. */
  readonly holdDials: boolean;
  /** Streams are channels that are piped to channels over the sockets, in place of being joined to them. */
  readonly channels: boolean;
  /** The server answers 403 as soon as it has seen these first words, and else dials when there are any. */
  readonly refuseWords: string;
}

export interface TunnelStats {
  readonly clientTunnels: number;
  readonly clientStreams: number;
  readonly serverTunnels: number;
  readonly serverStreams: number;
  /** Bytes that wait for applications behind the servers' streams, and behind the clients'. */
  readonly backlog: number;
  readonly clientBacklog: number;
  /** Tasks ever put off to the end of a turn. */
  readonly laters: number;
  /** How often an application's socket was ready. */
  readonly events: number;
  /** How streams of clients and reasons why tunnels ended. */
  readonly ends: readonly string[];
}

const LONG_MS = 60_000;
const noEvents: Pick<TunnelEvents, 'onRequest' | 'onStreamEnd' | 'onDraining'> = {
  onRequest: () => {},
  onStreamEnd: () => {},
  onDraining: () => {},
};

class Host {
  readonly #loop: Loop;
  readonly #start: TunnelHostStart;
  readonly #staging = new StagingPool();
  readonly #server: TlsContext;
  readonly #client: TlsContext;
  readonly #listeners: Listener[];
  readonly clientTunnels = new Set<Tunnel>();
  readonly serverTunnels = new Set<Tunnel>();
  readonly ends: string[] = [];
  readonly #held: (() => void)[] = [];
  #waiting: ((tunnel: Tunnel | null) => void)[] = [];

  constructor(loop: Loop, start: TunnelHostStart) {
    this.#loop = loop;
    this.#start = start;
    this.#server = new TlsContext('server', start.serverMaterial, ['h2']);
    this.#client = new TlsContext('client', start.clientMaterial, ['h2']);
    this.#listeners = [
      this.#listen(start.tunnel, (fd) => this.#acceptTunnel(fd)),
      this.#listen(start.listen, (fd) => this.#withTunnel((tunnel) => this.#join(tunnel, fd, 0, []))),
    ];
  }

  #listen(at: Address, onConnection: (fd: number) => void): Listener {
    return new Listener(this.#loop, at, {
      mayAccept: () => true,
      onPause: () => {},
      onConnection: (fd) => {
        if (this.#loop.watch(fd, 0, { onEvents: () => {}, onFault: () => {} })) onConnection(fd);
      },
    });
  }

  #options(): TunnelOptions {
    const { maxStreams, streamIdleMs } = this.#start;
    return { maxStreams, idleMs: LONG_MS, streamIdleMs, streamWindow: 262_144, staging: this.#staging };
  }

  #acceptTunnel(fd: number): void {
    this.#loop.rearm(fd, EPOLLIN);
    new TlsHandshake(this.#loop, fd, this.#server, 'server', LONG_MS, {
      onFailed: (reason) => this.ends.push(`server handshake: ${reason}`),
      onSecured: (secured, session) => {
        const tunnel = new Tunnel(this.#loop, secured, session, 'server', this.#options(), {
          ...noEvents,
          onRequest: (stream, headers) =>
            this.#serve(stream, headers.find(([name]) => name === ':authority')?.[1] ?? ''),
          onClosed: (reason) => {
            this.serverTunnels.delete(tunnel);
            this.ends.push(`server tunnel: ${reason}`);
          },
        });
        this.serverTunnels.add(tunnel);
      },
    });
  }

  #serve(stream: TunnelStream, authority: string): void {
    const target = parseConnectAuthority(authority);
    if (target === null) {
      stream.refuse(403, [['x-postern-reason', 'no']]);
      return;
    }
    const { refuseWords } = this.#start;
    if (refuseWords !== '') {
      stream.whenHeld = () => this.#look(stream, target);
      return;
    }
    if (this.#start.holdDials) this.#held.push(() => this.#dialApplication(stream, target));
    else this.#dialApplication(stream, target);
  }

  /** As a sidecar that must know what is spoken before it answers. */
  #look(stream: TunnelStream, target: Address): void {
    const { refuseWords } = this.#start;
    const words = stream.peekHeld(refuseWords.length)?.toString() ?? '';
    if (words === refuseWords) stream.refuse(403, [['x-postern-reason', 'such words are not wanted']]);
    else if (words.length === refuseWords.length || stream.peerEnded) {
      stream.whenHeld = null;
      this.#dialApplication(stream, target);
    }
  }

  dialHeld(): void {
    for (const dial of this.#held.splice(0)) dial();
  }

  #dialApplication(stream: TunnelStream, target: Address): void {
    const dial = new Dial(this.#loop, target, 0, LONG_MS, {
      onConnected: (fd) => {
        stream.accept([]);
        if (this.#start.channels) this.#pipe(stream, fd, 'server');
        else stream.attach(fd);
      },
      onFailed: (reason) => stream.refuse(503, [['x-postern-reason', reason]]),
    });
    stream.owner = { onResponse: () => {}, onEnd: () => dial.cancel() };
  }

  #pipe(stream: TunnelStream, fd: number, side: string): void {
    const socket = new SocketChannel(this.#loop, new SocketEnd(fd));
    pipeChannels(stream.openChannel(), socket, (detail) => this.ends.push(`${side} pipe: ${detail}`));
  }

  #withTunnel(use: (tunnel: Tunnel | null) => void): void {
    for (const tunnel of this.clientTunnels) {
      if (tunnel.hasRoomForStream) {
        use(tunnel);
        return;
      }
    }
    this.#waiting.push(use);
    if (this.#waiting.length === 1) this.#makeTunnel();
  }

  #makeTunnel(): void {
    const failed = (reason: string): void => {
      this.ends.push(`client tunnel: ${reason}`);
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const use of waiting) use(null);
    };
    new Dial(this.#loop, this.#start.to, 0, LONG_MS, {
      onFailed: failed,
      onConnected: (fd) => {
        new TlsHandshake(this.#loop, fd, this.#client, 'client', LONG_MS, {
          onFailed: failed,
          onSecured: (secured, session) => {
            const tunnel = new Tunnel(this.#loop, secured, session, 'client', this.#options(), {
              ...noEvents,
              onClosed: (reason) => {
                this.clientTunnels.delete(tunnel);
                this.ends.push(`client tunnel: ${reason}`);
              },
            });
            this.clientTunnels.add(tunnel);
            const waiting = this.#waiting;
            this.#waiting = [];
            for (const use of waiting) this.#withTunnel(use);
          },
        });
      },
    });
  }

  /** As the outbound path does: an answer of 503 gives the socket back, and another destination is tried with the same bytes. */
  #join(tunnel: Tunnel | null, fd: number, attempt: number, replay: readonly Buffer[]): void {
    const authority = this.#start.authorities[attempt];
    if (tunnel === null || authority === undefined) {
      this.#loop.close(fd);
      return;
    }
    let taken = false;
    const stream = tunnel.open(
      [
        [':method', 'CONNECT'],
        [':authority', authority],
      ],
      {
        onResponse: (status) => {
          const back = status === 503 || status === 0 ? stream.takeSocket() : null;
          if (back === null) return;
          taken = true;
          this.#loop.later(() => this.#withTunnel((next) => this.#join(next, back.fd, attempt + 1, back.replay)));
        },
        onEnd: (how, detail) => {
          if (!taken) this.ends.push(`stream ${how}: ${detail}`);
        },
      },
    );
    if (this.#start.channels) this.#pipe(stream, fd, 'client');
    else stream.attach(fd, replay);
  }

  drainServers(): void {
    for (const tunnel of [...this.serverTunnels]) tunnel.drain();
  }

  closeServers(): void {
    for (const tunnel of [...this.serverTunnels]) tunnel.close('the test says so', -1);
  }

  destroy(): void {
    for (const listener of this.#listeners) listener.close();
    for (const tunnel of [...this.clientTunnels, ...this.serverTunnels]) tunnel.close('the test is over', 0);
    this.#server.free();
    this.#client.free();
  }
}

hostLoop((loop, start) => {
  let laters = 0;
  let events = 0;
  const { onEvents } = StreamSocket.prototype;
  StreamSocket.prototype.onEvents = function counted(mask) {
    events++;
    onEvents.call(this, mask);
  };
  const later = loop.later.bind(loop);
  loop.later = (task) => {
    laters++;
    later(task);
  };
  const host = new Host(loop, start as TunnelHostStart);
  const streams = (tunnels: Iterable<Tunnel>): TunnelStream[] =>
    [...tunnels].flatMap((tunnel) => [...tunnel.streams()]);
  const backlog = (tunnels: Iterable<Tunnel>): number =>
    streams(tunnels).reduce((sum, stream) => sum + stream.backlogBytes, 0);
  return {
    stats: (): TunnelStats => ({
      clientTunnels: host.clientTunnels.size,
      clientStreams: streams(host.clientTunnels).length,
      serverTunnels: host.serverTunnels.size,
      serverStreams: streams(host.serverTunnels).length,
      backlog: backlog(host.serverTunnels),
      clientBacklog: backlog(host.clientTunnels),
      laters,
      events,
      ends: [...host.ends],
    }),
    dial: () => host.dialHeld(),
    drainServers: () => host.drainServers(),
    closeServers: () => host.closeServers(),
    destroy: () => host.destroy(),
    /** Bytes of live objects in this thread. */
    heap: (): number => {
      setFlagsFromString('--expose-gc');
      (runInNewContext('gc') as () => void)();
      return process.memoryUsage().heapUsed;
    },
  };
});
