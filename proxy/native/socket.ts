import { Errno } from './errno.ts';
import { bind, errno } from './library.ts';
import { NativeBuffer } from './memory.ts';

/** socket(7), tcp(7), ip(7): non-blocking TCP sockets by descriptor. Addresses are text as inet_ntop(3) prints them, IPv4-mapped ones as IPv4. */

const cSocket = bind<(domain: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const cBind = bind<(fd: number, address: number, length: number) => number>('int bind(int, uintptr_t, uint)');
const cListen = bind<(fd: number, backlog: number) => number>('int listen(int, int)');
const cAccept4 = bind<(fd: number, address: number, length: number, flags: number) => number>(
  'int accept4(int, uintptr_t, uintptr_t, int)',
);
const cConnect = bind<(fd: number, address: number, length: number) => number>('int connect(int, uintptr_t, uint)');
const cSetsockopt = bind<(fd: number, level: number, name: number, value: number, length: number) => number>(
  'int setsockopt(int, int, int, uintptr_t, uint)',
);
const cGetsockopt = bind<(fd: number, level: number, name: number, value: number, length: number) => number>(
  'int getsockopt(int, int, int, uintptr_t, uintptr_t)',
);
const cGetsockname = bind<(fd: number, address: number, length: number) => number>(
  'int getsockname(int, uintptr_t, uintptr_t)',
);
const cShutdown = bind<(fd: number, how: number) => number>('int shutdown(int, int)');
const cClose = bind<(fd: number) => number>('int close(int)');
const cRecv = bind<(fd: number, buffer: number, length: number, flags: number) => number>(
  'intptr_t recv(int, uintptr_t, size_t, int)',
);
/** @returns bytes, 0 at the end of the stream, -1 with errno. */
export const readInto = bind<(fd: number, address: number, length: number) => number>(
  'intptr_t read(int, uintptr_t, size_t)',
);
const cSend = bind<(fd: number, buffer: number, length: number, flags: number) => number>(
  'intptr_t send(int, uintptr_t, size_t, int)',
);
const cSendBuffer = bind<(fd: number, buffer: Uint8Array, length: number, flags: number) => number>(
  'intptr_t send(int, void *, size_t, int)',
);

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_KEEPALIVE = 9;
const SO_LINGER = 13;
const SO_REUSEPORT = 15;
const SO_MARK = 36;
const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
/** Same number for IPv4 (linux/netfilter_ipv4.h) and IPv6 (linux/netfilter_ipv6/ip6_tables.h). */
const SO_ORIGINAL_DST = 80;
const TCP_NODELAY = 1;
const MSG_PEEK = 2;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;

/** Room for a sockaddr_storage (128 bytes), a socklen_t and an option's value; used within one call only. */
const scratch = new NativeBuffer(256);
const LENGTH_AT = 128;
const VALUE_AT = 192;

export interface Address {
  readonly address: string;
  readonly port: number;
}

function writeAddress(target: Address): number {
  const b = scratch.bytes;
  b.fill(0, 0, 28);
  if (target.address.includes(':')) {
    b.writeUInt16LE(AF_INET6, 0);
    b.writeUInt16BE(target.port, 2);
    writeIpv6(target.address, b, 8);
    return 28;
  }
  b.writeUInt16LE(AF_INET, 0);
  b.writeUInt16BE(target.port, 2);
  let value = 0;
  let at = 4;
  for (let i = 0; i <= target.address.length; i++) {
    const c = i < target.address.length ? target.address.charCodeAt(i) : 46;
    if (c === 46) {
      b[at++] = value;
      value = 0;
    } else value = value * 10 + c - 48;
  }
  return 16;
}

function writeIpv6(text: string, into: Buffer, at: number): void {
  let head = text;
  let embedded = '';
  const dot = text.indexOf('.');
  if (dot >= 0) {
    const cut = text.lastIndexOf(':') + 1;
    const [a = 0, b = 0, c = 0, d = 0] = text.slice(cut).split('.').map(Number);
    embedded = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
    head = text.slice(0, cut);
  }
  const [left = '', right] = (head + embedded).split('::');
  const words = (part: string): number[] => (part === '' ? [] : part.split(':').map((w) => Number.parseInt(w, 16)));
  const front = words(left);
  const back = right === undefined ? [] : words(right);
  const all =
    right === undefined ? front : [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
  for (const [i, word] of all.entries()) into.writeUInt16BE(word, at + i * 2);
}

const hexWord = (b: Buffer, at: number): string => b.readUInt16BE(at).toString(16);

/** Reads a sockaddr; text as inet_ntop(3) prints it (RFC 5952), IPv4-mapped as IPv4. */
function readAddress(): Address {
  const b = scratch.bytes;
  const port = b.readUInt16BE(2);
  if (b.readUInt16LE(0) === AF_INET) return { address: `${b[4]}.${b[5]}.${b[6]}.${b[7]}`, port };
  if (b.readUInt32BE(8) === 0 && b.readUInt32BE(12) === 0 && b.readUInt32BE(16) === 0xffff) {
    return { address: `${b[20]}.${b[21]}.${b[22]}.${b[23]}`, port };
  }
  let bestAt = -1;
  let bestLength = 1; // a single zero word is not shortened (RFC 5952, 4.2.2)
  for (let i = 0; i < 8; ) {
    let j = i;
    while (j < 8 && b.readUInt16BE(8 + j * 2) === 0) j++;
    if (j - i > bestLength) {
      bestAt = i;
      bestLength = j - i;
    }
    i = j === i ? i + 1 : j;
  }
  const words: string[] = [];
  for (let i = 0; i < 8; i++) words.push(hexWord(b, 8 + i * 2));
  if (bestAt < 0) return { address: words.join(':'), port };
  return { address: `${words.slice(0, bestAt).join(':')}::${words.slice(bestAt + bestLength).join(':')}`, port };
}

function setOption(fd: number, level: number, name: number, value: number): boolean {
  scratch.bytes.writeInt32LE(value | 0, VALUE_AT); // a mark may use all 32 bits
  return cSetsockopt(fd, level, name, scratch.address + VALUE_AT, 4) === 0;
}

const familyOf = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET);

/** @returns a listening descriptor, or -errno. */
export function openListener(at: Address, backlog: number): number {
  const family = familyOf(at.address);
  const fd = cSocket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno();
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  // "[::]" means both families, as everywhere; a particular IPv6 address is its own.
  if (family === AF_INET6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, at.address === '::' ? 0 : 1);
  if (cBind(fd, scratch.address, writeAddress(at)) !== 0 || cListen(fd, backlog) !== 0) {
    const code = errno();
    cClose(fd);
    return -code;
  }
  return fd;
}

/** @returns the new descriptor, or -errno. `peerOfLastAccept` tells who it is. */
export function accept(listener: number): number {
  scratch.bytes.writeUInt32LE(128, LENGTH_AT);
  const fd = cAccept4(listener, scratch.address, scratch.address + LENGTH_AT, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return fd >= 0 ? fd : -errno();
}

/** Valid right after `accept` and before any other call here. */
export function peerOfLastAccept(): Address {
  return readAddress();
}

/** Starts a connection. @returns a descriptor (connecting, or connected already), or -errno. */
export function connect(to: Address, mark: number): number {
  const fd = cSocket(familyOf(to.address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno();
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (mark !== 0 && !setOption(fd, SOL_SOCKET, SO_MARK, mark)) {
    const code = errno();
    cClose(fd);
    return -code;
  }
  if (cConnect(fd, scratch.address, writeAddress(to)) !== 0) {
    const code = errno();
    if (code !== Errno.EINPROGRESS) {
      cClose(fd);
      return -code;
    }
  }
  return fd;
}

/** @returns 0 when connected, else the errno of the failure (SO_ERROR). */
export function connectError(fd: number): number {
  scratch.bytes.writeUInt32LE(4, LENGTH_AT);
  if (cGetsockopt(fd, SOL_SOCKET, SO_ERROR, scratch.address + VALUE_AT, scratch.address + LENGTH_AT) !== 0)
    return errno();
  return scratch.bytes.readInt32LE(VALUE_AT);
}

/**
 * Where a redirected connection was going before nftables or iptables turned it here. For one that was not redirected it is the listener's own
 * address where conntrack watches, and null where it does not: callers refuse both.
 */
export function originalDestination(fd: number, ipv6: boolean): Address | null {
  scratch.bytes.writeUInt32LE(128, LENGTH_AT);
  const level = ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
  if (cGetsockopt(fd, level, SO_ORIGINAL_DST, scratch.address, scratch.address + LENGTH_AT) !== 0) return null;
  return readAddress();
}

export function localAddress(fd: number): Address {
  scratch.bytes.writeUInt32LE(128, LENGTH_AT);
  if (cGetsockname(fd, scratch.address, scratch.address + LENGTH_AT) !== 0) return { address: '0.0.0.0', port: 0 };
  return readAddress();
}

export function setNoDelay(fd: number): void {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

export function setKeepAlive(fd: number): void {
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/** Leaves the bytes in the socket. @returns as `readInto`. */
export function peekInto(fd: number, address: number, length: number): number {
  return cRecv(fd, address, length, MSG_PEEK);
}

/** write(2) without SIGPIPE. @returns bytes, or -1 with errno. */
export function writeFrom(fd: number, address: number, length: number): number {
  return cSend(fd, address, length, MSG_NOSIGNAL);
}

/** As `writeFrom`, of bytes in JavaScript's memory: for the slow path (a Buffer argument costs more than an address). */
export function writeBytes(fd: number, bytes: Uint8Array): number {
  return cSendBuffer(fd, bytes, bytes.length, MSG_NOSIGNAL);
}

/** Sends FIN; reading goes on. */
export function shutdownWrite(fd: number): void {
  cShutdown(fd, SHUT_WR);
}

export function closeDescriptor(fd: number): void {
  cClose(fd);
}

/** Makes the coming close(2) send RST instead of FIN, so that the peer sees an abort as an abort. */
export function resetOnClose(fd: number): void {
  scratch.bytes.writeInt32LE(1, VALUE_AT);
  scratch.bytes.writeInt32LE(0, VALUE_AT + 4);
  cSetsockopt(fd, SOL_SOCKET, SO_LINGER, scratch.address + VALUE_AT, 8);
}
