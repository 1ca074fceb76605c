/**
 * Listens on the wire: prints every TCP segment with content that passes this namespace's network interface (not its loopback one), as lines of
 * JSON, until its standard input ends. Needs CAP_NET_RAW.
 */
import { networkInterfaces } from 'node:os';
import { messageOf } from '../mesh/errors.ts';
import { NativeBuffer } from '../proxy/native/memory.ts';
import { openPacketSocket } from '../proxy/native/packet-socket.ts';
import { readInto } from '../proxy/native/socket.ts';
import { readSegment } from './wire.ts';

/** A segment may be as long as the largest IP packet: segmentation is offloaded on veth. */
const LARGEST_FRAME = 66_000;
const POLL_MS = 2;
const CAPTURE_LIMIT = 4 * 1024 * 1024;

function main(): void {
  const wire = Object.keys(networkInterfaces()).find((candidate) => candidate !== 'lo');
  if (wire === undefined) throw new Error('this namespace has no network interface but lo');
  const frame = new NativeBuffer(LARGEST_FRAME);
  const fd = openPacketSocket(wire);
  let captured = 0;
  const poll = (): void => {
    for (;;) {
      const length = readInto(fd, frame.address, LARGEST_FRAME);
      if (length <= 0) return;
      const segment = readSegment(frame.bytes.subarray(0, length));
      if (segment === null || captured > CAPTURE_LIMIT) continue;
      captured += segment.payload.length;
      process.stdout.write(`${JSON.stringify({ ...segment, payload: segment.payload.toString('base64') })}\n`);
    }
  };
  const timer = setInterval(poll, POLL_MS);
  process.stdout.write('ready\n');
  process.stdin.resume().on('end', () => {
    clearInterval(timer);
    poll();
    process.exit(0);
  });
}

try {
  main();
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
}
