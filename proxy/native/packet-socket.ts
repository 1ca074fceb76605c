import { errnoName } from './errno.ts';
import { bind, errno } from './library.ts';
import { NativeBuffer } from './memory.ts';
import { closeDescriptor } from './socket.ts';

/** packet(7), linux/if_ether.h, linux/if_packet.h: whatever passes a network interface, for whoever shows what is on the wire. */

const cSocket = bind<(domain: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const cBind = bind<(fd: number, address: number, length: number) => number>('int bind(int, uintptr_t, uint)');
const cIfNameToIndex = bind<(name: string) => number>('uint if_nametoindex(const char *)');

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const ETH_P_ALL = 0x0003;
/** sizeof(struct sockaddr_ll); its protocol is in network byte order, its interface in the machine's. */
const ADDRESS_LENGTH = 20;
const PROTOCOL_AT = 2;
const INTERFACE_AT = 4;

/**
 * A non-blocking socket from which `readInto` takes the frames of one interface, link-layer header included, those sent as well as those received.
 * The caller closes it. @throws Error where the interface does not exist, or CAP_NET_RAW is missing
 */
export function openPacketSocket(interfaceName: string): number {
  const index = cIfNameToIndex(interfaceName);
  if (index === 0) throw new Error(`there is no network interface ${interfaceName} (${errnoName(errno())})`);
  const protocol = ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >> 8);
  const fd = cSocket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) throw new Error(`cannot open a packet socket (${errnoName(errno())}): CAP_NET_RAW is needed`);
  const address = new NativeBuffer(ADDRESS_LENGTH);
  try {
    address.bytes.fill(0);
    address.bytes.writeUInt16LE(AF_PACKET, 0);
    address.bytes.writeUInt16BE(ETH_P_ALL, PROTOCOL_AT);
    address.bytes.writeUInt32LE(index, INTERFACE_AT);
    if (cBind(fd, address.address, ADDRESS_LENGTH) === 0) return fd;
    const reason = errnoName(errno());
    closeDescriptor(fd);
    throw new Error(`cannot listen on ${interfaceName} (${reason})`);
  } finally {
    address.free();
  }
}
