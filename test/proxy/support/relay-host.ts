import type { Address } from '../../../proxy/native/socket.ts';
import { TlsContext, type TlsMaterial } from '../../../proxy/native/tls-context.ts';
import { Dial } from '../../../proxy/reactor/dial.ts';
import { type ByteEnd, SocketEnd, TlsEnd } from '../../../proxy/reactor/ends.ts';
import { Listener } from '../../../proxy/reactor/listener.ts';
import { Relay } from '../../../proxy/reactor/relay.ts';
import { TlsHandshake } from '../../../proxy/reactor/tls-handshake.ts';
import { hostLoop } from './loop-host.ts';

/** What comes to `listen` is relayed to `to`; over TLS where there is material for it. */
export interface RelayHostStart {
  readonly listen: Address;
  readonly to: Address;
  readonly material: TlsMaterial | null;
  readonly idleMs: number;
  readonly timeoutMs: number;
  /** So often an end says that it could not tell its peer of the end yet. */
  readonly endDelays: number;
  /** Live connections at which accepting rests. */
  readonly maxConnections: number;
}

export interface RelayStats {
  readonly live: number;
  readonly ends: readonly string[];
  readonly pauses: number;
  /** How often a descriptor of a relay was ready. */
  readonly events: number;
}

/** As a TLS end whose socket has no room for close_notify. */
class ReluctantEnd extends SocketEnd {
  #delays: number;

  constructor(fd: number, delays: number) {
    super(fd);
    this.#delays = delays;
  }

  override endWrite(): boolean {
    return this.#delays-- > 0 ? false : super.endWrite();
  }
}

hostLoop((loop, argument) => {
  const start = argument as RelayHostStart;
  const context = start.material === null ? null : new TlsContext('server', start.material, ['istio']);
  const ends: string[] = [];
  let live = 0;
  let pauses = 0;
  let events = 0;
  const { onSide } = Relay.prototype;
  Relay.prototype.onSide = function counted(side, mask) {
    events++;
    onSide.call(this, side, mask);
  };

  const done = (why: string): void => {
    live--;
    ends.push(why);
  };
  const carry = (end: ByteEnd): void => {
    new Dial(loop, start.to, 0, start.timeoutMs, {
      onFailed: (reason) => {
        end.release(true);
        loop.close(end.fd);
        done(`dial: ${reason}`);
      },
      onConnected: (fd) => {
        const relay = new Relay(loop, end, new SocketEnd(fd), start.idleMs, {
          onEnd: (how, detail) => done(`${how}: ${detail} ${relay.bytesForward}/${relay.bytesBack}`),
        });
      },
    });
  };
  const listener = new Listener(loop, start.listen, {
    mayAccept: () => live < start.maxConnections,
    onPause: () => pauses++,
    onConnection: (fd) => {
      if (!loop.watch(fd, 0, { onEvents: () => {}, onFault: () => {} })) return;
      live++;
      if (context === null) {
        carry(new ReluctantEnd(fd, start.endDelays));
        return;
      }
      new TlsHandshake(loop, fd, context, 'server', start.timeoutMs, {
        onFailed: (reason) => done(`handshake: ${reason}`),
        onSecured: (secured, session) => {
          loop.rearm(secured, 0);
          carry(new TlsEnd(secured, session));
        },
      });
    },
  });
  return {
    stats: (): RelayStats => ({ live, ends: [...ends], pauses, events }),
    destroy: () => {
      listener.close();
      context?.free();
    },
  };
});
