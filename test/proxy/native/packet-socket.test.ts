import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { expect, test } from 'vitest';
import { NativeBuffer } from '../../../proxy/native/memory.ts';
import { openPacketSocket } from '../../../proxy/native/packet-socket.ts';
import { closeDescriptor, readInto } from '../../../proxy/native/socket.ts';
import { eventually } from '../../support/eventually.ts';

function mayCapture(): boolean {
  try {
    closeDescriptor(openPacketSocket('lo'));
    return true;
  } catch {
    return false;
  }
}

test.runIf('lo' in networkInterfaces() && mayCapture())('a packet socket sees what passes its interface', async () => {
  const fd = openPacketSocket('lo');
  const frame = new NativeBuffer(66_000);
  const sender = createSocket('udp4');
  try {
    const mark = Buffer.from('what is on the wire');
    sender.send(mark, 9, '127.0.0.1');
    await eventually(
      () => {
        for (let length = readInto(fd, frame.address, 66_000); length > 0; ) {
          if (frame.bytes.subarray(0, length).includes(mark)) return true;
          length = readInto(fd, frame.address, 66_000);
        }
        return false;
      },
      { what: 'the datagram' },
    );
  } finally {
    const closed = once(sender, 'close');
    sender.close();
    await closed;
    closeDescriptor(fd);
    frame.free();
  }
});

test('an interface that does not exist is named', () => {
  expect(() => openPacketSocket('none-such0')).toThrow(/there is no network interface none-such0/);
});
