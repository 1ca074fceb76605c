import { EndSniff, type SniffResult, SocketSniff } from '../../../proxy/connection/sniff.ts';
import type { Address } from '../../../proxy/native/socket.ts';
import { TlsContext, type TlsMaterial } from '../../../proxy/native/tls-context.ts';
import { Dial } from '../../../proxy/reactor/dial.ts';
import { type ByteEnd, SocketEnd, TlsEnd } from '../../../proxy/reactor/ends.ts';
import { Listener } from '../../../proxy/reactor/listener.ts';
import { Relay } from '../../../proxy/reactor/relay.ts';
import { TlsHandshake } from '../../../proxy/reactor/tls-handshake.ts';
import { hostLoop } from './loop-host.ts';

/** Looks at what comes to `listen`, over TLS where there is material for it, and then relays all of it to `to`. */
export interface SniffHostStart {
  readonly listen: Address;
  readonly to: Address;
  readonly material: TlsMaterial | null;
  readonly timeoutMs: number;
}

hostLoop((loop, argument) => {
  const { listen, to, material, timeoutMs } = argument as SniffHostStart;
  const context = material === null ? null : new TlsContext('server', material, ['istio']);
  const seen: SniffResult[] = [];
  const relay = (end: ByteEnd, result: SniffResult, taken: Buffer | null): void => {
    seen.push(result);
    if (result === 'failed') {
      end.release(true);
      loop.close(end.fd);
      return;
    }
    new Dial(loop, to, 0, 10_000, {
      onFailed: () => loop.close(end.fd),
      onConnected: (fd) => {
        new Relay(loop, end, new SocketEnd(fd), 60_000, { onEnd: () => {} }, taken);
      },
    });
  };
  const listener = new Listener(loop, listen, {
    mayAccept: () => true,
    onPause: () => {},
    onConnection: (fd) => {
      if (!loop.watch(fd, 0, { onEvents: () => {}, onFault: () => {} })) return;
      if (context === null) {
        new SocketSniff(loop, fd, timeoutMs, (result) => relay(new SocketEnd(fd), result, null));
        return;
      }
      new TlsHandshake(loop, fd, context, 'server', 10_000, {
        onFailed: () => {},
        onSecured: (secured, session) => {
          const end = new TlsEnd(secured, session);
          new EndSniff(loop, end, timeoutMs, (result, taken) => relay(end, result, taken));
        },
      });
    },
  });
  return {
    seen: () => [...seen],
    destroy: () => {
      listener.close();
      context?.free();
    },
  };
});
