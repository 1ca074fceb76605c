import { Peek } from '../../../proxy/connection/peek.ts';
import { EndSniff, SocketSniff } from '../../../proxy/connection/sniff.ts';
import type { Address } from '../../../proxy/native/socket.ts';
import { closeDescriptor } from '../../../proxy/native/socket.ts';
import { TlsContext, type TlsMaterial } from '../../../proxy/native/tls-context.ts';
import { Dial } from '../../../proxy/reactor/dial.ts';
import { TlsEnd } from '../../../proxy/reactor/ends.ts';
import { Listener } from '../../../proxy/reactor/listener.ts';
import { TlsHandshake } from '../../../proxy/reactor/tls-handshake.ts';
import { hostLoop } from './loop-host.ts';

/** Takes each connection to `listen` one step, whose outcome is met by an exception. */
export interface FaultHostStart {
  readonly listen: Address;
  readonly material: TlsMaterial;
  readonly step: 'peek' | 'sniff' | 'dial' | 'handshake' | 'sniff within TLS' | 'no memory for TLS';
}

const LONG_MS = 60_000;

hostLoop((loop, argument) => {
  const { listen, material, step } = argument as FaultHostStart;
  const context = new TlsContext('server', material, ['h2']);
  const failures: string[] = [];
  const fail = (): never => {
    throw new Error(`fault after ${step}`);
  };
  const handshake = (fd: number, by: TlsContext, then: (fd: number, end: TlsEnd) => void): void => {
    new TlsHandshake(loop, fd, by, 'server', LONG_MS, {
      onSecured: (secured, session) => then(secured, new TlsEnd(secured, session)),
      onFailed: (reason) => failures.push(reason),
    });
  };
  const take: { readonly [name in FaultHostStart['step']]: (fd: number) => void } = {
    peek: (fd) => new Peek(loop, fd, LONG_MS, fail),
    sniff: (fd) => new SocketSniff(loop, fd, LONG_MS, fail),
    dial: (fd) => {
      loop.close(fd);
      new Dial(loop, listen, 0, LONG_MS, { onConnected: fail, onFailed: () => undefined });
    },
    handshake: (fd) => handshake(fd, context, fail),
    'sniff within TLS': (fd) => handshake(fd, context, (_, end) => new EndSniff(loop, end, LONG_MS, fail)),
    'no memory for TLS': (fd) => handshake(fd, { pointer: 0 } as TlsContext, () => undefined),
  };
  let taken = 0;
  const listener = new Listener(loop, listen, {
    mayAccept: () => true,
    onPause: () => undefined,
    onConnection: (fd) => {
      // Of the dial the other side is accepted here as well.
      if (step === 'dial' && taken++ > 0) closeDescriptor(fd);
      else if (loop.watch(fd, 0, { onEvents: () => undefined, onFault: () => undefined })) take[step](fd);
    },
  });
  return {
    failures: () => [...failures],
    destroy: () => {
      listener.close();
      context.free();
    },
  };
});
