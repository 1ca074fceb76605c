import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeStatus, encodeCheck } from '../../../../proxy/control/probes/health-message.ts';

const frame = (...message: readonly number[]): Buffer => Buffer.from([0, 0, 0, 0, message.length, ...message]);

it.each([
  ['', '0000000000'],
  ['a', '00000000030a0161'],
])('asks for the service %j', (service, hex) => expect(encodeCheck(service).toString('hex')).toBe(hex));

it('writes the length of a long name in two bytes', () => {
  expect(encodeCheck('x'.repeat(300)).subarray(5, 8).toString('hex')).toBe('0aac02');
});

it.each([
  ['SERVING', frame(0x08, 0x01)],
  ['UNKNOWN', frame()],
  ['NOT_SERVING', frame(0x08, 0x02)],
  ['SERVICE_UNKNOWN', frame(0x08, 0x03)],
  ['status 9', frame(0x08, 0x09)],
  ['SERVING', frame(0x08, 0x02, 0x08, 0x01)],
  ['SERVING', frame(0x08, 0x01, 0x12, 0x02, 0x08, 0x02)],
  ['SERVING', frame(0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 0x01)],
])('reads %s', (status, bytes) => expect(decodeStatus(bytes)).toBe(status));

it.each([
  ['nothing', Buffer.alloc(0)],
  ['a compressed frame', Buffer.from([1, 0, 0, 0, 2, 8, 1])],
  ['half a frame', frame(0x08, 0x01).subarray(0, 6)],
  ['two frames', Buffer.concat([frame(0x08, 0x01), frame()])],
  ['a status of another type', frame(0x0a, 0x01, 0x01)],
  ['a number without end', frame(0x08, 0x80)],
  ['a field that is longer than the message', frame(0x08, 0x01, 0x12, 0x05)],
  ['a group', frame(0x08, 0x01, 0x1b)],
])('reads no status in %s', (_, bytes) => expect(decodeStatus(bytes)).toBeNull());

it('never throws', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (message) => {
      const status = decodeStatus(frame(...message));
      expect(status === null || typeof status === 'string').toBe(true);
    }),
  );
});
