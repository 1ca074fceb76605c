/**
 * Listens on the wire: prints every TCP segment with content that passes this namespace's network interface (not its loopback one), as lines of
 * JSON, until its standard input ends. Needs CAP_NET_RAW.
 */
import { networkInterfaces } from 'node:os';
import { messageOf } from '../mesh/errors.ts';
import { bind, errno } from '../proxy/native/library.ts';
import { NativeBuffer } from '../proxy/native/memory.ts';
import { readInto } from '../proxy/native/socket.ts';
import { readSegment } from './wire.ts';

// packet(7), linux/if_ether.h
const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const ETH_P_ALL = 0x0003;
/** sizeof(struct sockaddr_ll) */
const ADDRESS_LENGTH = 20;
/** A segment may be as long as the largest IP packet: segmentation is offloaded on veth. */
const LARGEST_FRAME = 66_000;
const POLL_MS = 2;
const CAPTURE_LIMIT = 4 * 1024 * 1024;

const socket = bind<(domain: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const bindAddress = bind<(fd: number, address: number, length: number) => number>('int bind(int, uintptr_t, uint)');
const indexOf = bind<(name: string) => number>('uint if_nametoindex(const char *)');

function openCapture(interfaceName: string, scratch: NativeBuffer): number {
  const protocol = ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >> 8);
  const fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, protocol);
  if (fd < 0) throw new Error(`cannot open a packet socket (errno ${errno()}): CAP_NET_RAW is needed`);
  scratch.bytes.fill(0, 0, ADDRESS_LENGTH);
  scratch.bytes.writeUInt16LE(AF_PACKET, 0);
  scratch.bytes.writeUInt16BE(ETH_P_ALL, 2);
  scratch.bytes.writeUInt32LE(indexOf(interfaceName), 4);
  if (bindAddress(fd, scratch.address, ADDRESS_LENGTH) !== 0) {
    throw new Error(`cannot listen on ${interfaceName} (errno ${errno()})`);
  }
  return fd;
}

function main(): void {
  const wire = Object.keys(networkInterfaces()).find((candidate) => candidate !== 'lo');
  if (wire === undefined) throw new Error('this namespace has no network interface but lo');
  const frame = new NativeBuffer(LARGEST_FRAME);
  const fd = openCapture(wire, frame);
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
