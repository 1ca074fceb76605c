import { Peek } from '../../../proxy/connection/peek.ts';
import type { Address } from '../../../proxy/native/socket.ts';
import { Dial } from '../../../proxy/reactor/dial.ts';
import { SocketEnd } from '../../../proxy/reactor/ends.ts';
import { Listener } from '../../../proxy/reactor/listener.ts';
import { Relay } from '../../../proxy/reactor/relay.ts';
import { hostLoop } from './loop-host.ts';

/** Looks at what comes to `listen`; plaintext is then relayed to `to`, everything else closed. */
export interface PeekHostStart {
  readonly listen: Address;
  readonly to: Address;
  readonly timeoutMs: number;
}

hostLoop((loop, argument) => {
  const start = argument as PeekHostStart;
  const seen: string[] = [];
  const listener = new Listener(loop, start.listen, {
    mayAccept: () => true,
    onPause: () => {},
    onConnection: (fd) => {
      if (!loop.watch(fd, 0, { onEvents: () => {}, onFault: () => {} })) return;
      new Peek(loop, fd, start.timeoutMs, (first) => {
        seen.push(first.kind === 'malformed' ? `malformed: ${first.reason}` : first.kind);
        if (first.kind !== 'plaintext') {
          loop.close(fd);
          return;
        }
        new Dial(loop, start.to, 0, 10_000, {
          onFailed: () => loop.close(fd),
          onConnected: (to) => {
            new Relay(loop, new SocketEnd(fd), new SocketEnd(to), 60_000, { onEnd: () => {} });
          },
        });
      });
    },
  });
  return { seen: () => [...seen], destroy: () => listener.close() };
});
