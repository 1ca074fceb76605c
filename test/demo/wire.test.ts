import { describe, expect, test } from 'vitest';
import { hexLine, readSegment, tlsRecordType } from '../../demo/wire.ts';

function tcp(payload: Buffer, optionWords = 0): Buffer {
  const header = Buffer.alloc(20 + optionWords * 4);
  header.writeUInt16BE(40_000, 0);
  header.writeUInt16BE(15_008, 2);
  header.writeUInt8((5 + optionWords) << 4, 12);
  return Buffer.concat([header, payload]);
}

function ethernet(etherType: number, packet: Buffer): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(etherType, 12);
  return Buffer.concat([header, packet]);
}

function ipv4(segment: Buffer, protocol = 6): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(20 + segment.length, 2);
  header.writeUInt8(protocol, 9);
  return ethernet(0x0800, Buffer.concat([header, segment]));
}

function ipv6(segment: Buffer): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(segment.length, 4);
  header.writeUInt8(6, 6);
  return ethernet(0x86dd, Buffer.concat([header, segment]));
}

const text = Buffer.from('hello');

describe('reading a frame', () => {
  test.each([
    ['IPv4', ipv4(tcp(text))],
    ['IPv4 with TCP options', ipv4(tcp(text, 3))],
    ['IPv6', ipv6(tcp(text))],
    ['a frame padded to the least length of Ethernet', Buffer.concat([ipv4(tcp(text)), Buffer.alloc(9)])],
  ])('finds the content of a TCP segment in %s', (_name, frame) => {
    expect(readSegment(frame)).toEqual({ sourcePort: 40_000, destinationPort: 15_008, payload: text });
  });

  test.each([
    ['UDP', ipv4(tcp(text), 17)],
    ['ARP', ethernet(0x0806, Buffer.alloc(60))],
    ['a segment without content', ipv4(tcp(Buffer.alloc(0)))],
    ['a frame that is cut short', ipv4(tcp(text)).subarray(0, 50)],
    ['nothing', Buffer.alloc(0)],
  ])('finds nothing in %s', (_name, frame) => {
    expect(readSegment(frame)).toBeNull();
  });
});

describe('the look of bytes', () => {
  test.each([
    ['16 03 01 02 00', 'handshake'],
    ['17 03 03 00 20', 'application data'],
    ['14 03 03 00 01', 'other'],
    ['15 03 03 00 02', 'other'],
    ['47 45 54 20 2f', null],
    ['17 03', null],
  ])('%s begins a TLS record of type %s', (hex, type) => {
    expect(tlsRecordType(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toBe(type);
  });

  test('a hex line shows bytes and what of them is text', () => {
    expect(hexLine(Buffer.from('GET /\r\n'))).toBe('47 45 54 20 2f 0d 0a  |GET /..|');
  });
});
