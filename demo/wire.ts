/** Reading what a capture saw: Ethernet frames, and what the bytes of TCP segments look like. Pure. */

export interface Segment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Buffer;
}

const ETHERNET_HEADER = 14;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const PROTOCOL_TCP = 6;
const IPV6_HEADER = 40;

/** The TCP segment in an Ethernet frame; null where it holds none, or one without content. IPv6 extension headers are not looked behind. */
export function readSegment(frame: Buffer): Segment | null {
  if (frame.length < ETHERNET_HEADER + 20) return null;
  const packet = frame.subarray(ETHERNET_HEADER);
  const ip = readIp(frame.readUInt16BE(12), packet);
  if (ip === null) return null;
  const { start, end } = ip;
  if (start + 20 > end || end > packet.length) return null;
  const headerLength = (packet.readUInt8(start + 12) >> 4) * 4;
  if (headerLength < 20 || start + headerLength >= end) return null;
  return {
    sourcePort: packet.readUInt16BE(start),
    destinationPort: packet.readUInt16BE(start + 2),
    // Copied: the frame's memory is used again for the next one.
    payload: Buffer.from(packet.subarray(start + headerLength, end)),
  };
}

/** Where TCP is in an IP packet (RFC 791 3.1, RFC 8200 3). */
function readIp(etherType: number, packet: Buffer): { readonly start: number; readonly end: number } | null {
  if (etherType === ETHERTYPE_IPV4) {
    if (packet.readUInt8(9) !== PROTOCOL_TCP) return null;
    return { start: (packet.readUInt8(0) & 0x0f) * 4, end: packet.readUInt16BE(2) };
  }
  if (etherType === ETHERTYPE_IPV6 && packet.length >= IPV6_HEADER) {
    if (packet.readUInt8(6) !== PROTOCOL_TCP) return null;
    return { start: IPV6_HEADER, end: IPV6_HEADER + packet.readUInt16BE(4) };
  }
  return null;
}

/** What is at the head of a segment, where it begins a TLS record (RFC 8446 5.1); the middle of a record has no type of its own. */
export function tlsRecordType(payload: Buffer): 'handshake' | 'application data' | 'other' | null {
  if (payload.length < 5 || payload.readUInt8(1) !== 3 || payload.readUInt8(2) > 4) return null;
  switch (payload.readUInt8(0)) {
    case 22:
      return 'handshake';
    case 23:
      return 'application data';
    case 20:
    case 21:
      return 'other';
    default:
      return null;
  }
}

/** As hexdump(1) shows it: `17 03 03 01 5f …  |.…_|`. */
export function hexLine(bytes: Buffer, count = 16): string {
  const head = bytes.subarray(0, count);
  const hex = [...head].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const text = [...head].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
  return `${hex}  |${text}|`;
}
