import { NativeBuffer } from '../../../proxy/native/memory.ts';
import type { Address } from '../../../proxy/native/socket.ts';
import { TlsContext, type TlsMaterial } from '../../../proxy/native/tls-context.ts';
import type { ChannelHandler } from '../../../proxy/reactor/channel.ts';
import { type ByteEnd, SocketEnd, TlsEnd } from '../../../proxy/reactor/ends.ts';
import { Listener } from '../../../proxy/reactor/listener.ts';
import { SocketChannel } from '../../../proxy/reactor/socket-channel.ts';
import { TlsHandshake } from '../../../proxy/reactor/tls-handshake.ts';
import { hostLoop } from './loop-host.ts';

/** Every connection to `listen` becomes a channel that does what it is told. */
export interface ChannelHostStart {
  readonly listen: Address;
  readonly material: TlsMaterial | null;
  readonly prefix: string;
  /** What each channel does with what it receives; `sip`: it pauses after each piece. */
  readonly mode: 'collect' | 'sip' | 'echo' | 'throw';
  readonly attach: boolean;
}

export interface ChannelOrder {
  readonly channel: number;
  readonly text?: string;
  /** How often `text` is written. */
  readonly times?: number;
}

export interface ChannelState {
  readonly received: string;
  readonly events: readonly string[];
  readonly congested: boolean;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly reads: number;
  readonly writes: number;
  readonly wakeups: number;
}

class Probe implements ChannelHandler {
  readonly channel: SocketChannel;
  readonly mode: ChannelHostStart['mode'];
  readonly events: string[] = [];
  readonly calls = { reads: 0, writes: 0, wakeups: 0 };
  received = '';

  constructor(channel: SocketChannel, mode: ChannelHostStart['mode']) {
    this.channel = channel;
    this.mode = mode;
  }

  onData(from: NativeBuffer, start: number, end: number): void {
    if (this.mode === 'throw') throw new Error('the handler fails');
    if (this.mode === 'echo') {
      this.channel.write(from, start, end);
      if (this.channel.congested) this.channel.pause();
    } else this.received += from.bytes.latin1Slice(start, end);
    if (this.mode === 'sip') this.channel.pause();
  }

  onEnd(): void {
    this.events.push('end');
    if (this.mode === 'echo') this.channel.finish();
  }

  onDrain(): void {
    this.events.push('drain');
    if (this.mode === 'echo') this.channel.resume();
  }

  onClosed(detail: string): void {
    this.events.push(`closed: ${detail}`);
  }
}

/** Counts the calls of whatever end it is given. */
function counted<End extends ByteEnd>(end: End, calls: Probe['calls']): End {
  const { read, write } = end;
  end.read = (address, length) => {
    calls.reads++;
    return read.call(end, address, length);
  };
  end.write = (address, length) => {
    calls.writes++;
    return write.call(end, address, length);
  };
  return end;
}

hostLoop((loop, argument) => {
  const start = argument as ChannelHostStart;
  const context = start.material === null ? null : new TlsContext('server', start.material, ['istio']);
  const probes: Probe[] = [];
  const text = new NativeBuffer(512 * 1024);
  const make = (end: ByteEnd): void => {
    const channel = new SocketChannel(loop, end, Buffer.from(start.prefix, 'latin1'));
    const probe = new Probe(channel, start.mode);
    counted(end, probe.calls);
    const { onEvents } = channel;
    channel.onEvents = (mask) => {
      probe.calls.wakeups++;
      onEvents.call(channel, mask);
    };
    probes.push(probe);
    if (start.attach) channel.attach(probe);
  };
  const listener = new Listener(loop, start.listen, {
    mayAccept: () => true,
    onPause: () => {},
    onConnection: (fd) => {
      if (!loop.watch(fd, 0, { onEvents: () => {}, onFault: () => {} })) return;
      if (context === null) {
        make(new SocketEnd(fd));
        return;
      }
      new TlsHandshake(loop, fd, context, 'server', 20_000, {
        onFailed: () => {},
        onSecured: (secured, session) => make(new TlsEnd(secured, session)),
      });
    },
  });
  const probeOf = (order: unknown): Probe => {
    const probe = probes[(order as ChannelOrder).channel];
    if (probe === undefined) throw new Error('no such channel');
    return probe;
  };
  return {
    count: () => probes.length,
    undelivered: () => loop.undelivered,
    state: (order): ChannelState => {
      const { channel, events, received, calls } = probeOf(order);
      const { congested, bytesRead, bytesWritten } = channel;
      return { received, events: [...events], congested, bytesRead, bytesWritten, ...calls };
    },
    attach: (order) => {
      const probe = probeOf(order);
      probe.channel.attach(probe);
    },
    write: (order) => {
      const { text: words = '', times = 1 } = order as ChannelOrder;
      const length = text.bytes.write(words, 'latin1');
      for (let i = 0; i < times; i++) probeOf(order).channel.write(text, 0, length);
      return probeOf(order).channel.congested;
    },
    writeAll: (order) => {
      const length = text.bytes.write((order as ChannelOrder).text ?? '', 'latin1');
      for (const { channel } of probes) channel.write(text, 0, length);
      for (const { channel } of probes) channel.write(text, 0, length);
    },
    pause: (order) => probeOf(order).channel.pause(),
    resume: (order) => {
      // Twice, as somebody may who does not remember.
      probeOf(order).channel.resume();
      probeOf(order).channel.resume();
    },
    resumeAndWrite: (order) => {
      const length = text.bytes.write((order as ChannelOrder).text ?? '', 'latin1');
      probeOf(order).channel.resume();
      probeOf(order).channel.write(text, 0, length);
    },
    end: (order) => probeOf(order).channel.end(),
    finish: (order) => probeOf(order).channel.finish(),
    abort: (order) => probeOf(order).channel.abort('as told'),
    finishAll: () => {
      for (const { channel } of probes) channel.finish();
    },
    destroy: () => {
      listener.close();
      context?.free();
    },
  };
});
