/**
 * The two messages of grpc.health.v1.Health/Check (grpc/health/v1/health.proto), each in its gRPC frame: one byte that says whether it is compressed,
 * four bytes of length, the message.
 */

const PREFIX = 5;
/** Field 1 of either message. */
const SERVICE_TAG = (1 << 3) | 2;
const STATUS_FIELD = 1;
/** HealthCheckResponse.ServingStatus, by number. */
const STATUSES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'] as const;

/** @param service at most 1024 bytes; empty: the whole server */
export function encodeCheck(service: string): Buffer {
  const name = Buffer.from(service);
  const length = name.length < 0x80 ? [name.length] : [(name.length & 0x7f) | 0x80, name.length >> 7];
  const message = name.length === 0 ? name : Buffer.concat([Buffer.from([SERVICE_TAG, ...length]), name]);
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Name of the status in exactly one frame; null where that is not what `bytes` hold. */
export function decodeStatus(bytes: Buffer): string | null {
  if (bytes.length < PREFIX || bytes[0] !== 0 || bytes.readUInt32BE(1) !== bytes.length - PREFIX) return null;
  let status = 0;
  let at = PREFIX;
  while (at < bytes.length) {
    const tag = readVarint(bytes, at);
    if (tag === null) return null;
    const wire = tag.value & 7;
    const field = tag.value >>> 3;
    const value = wire === 0 || wire === 2 ? readVarint(bytes, tag.end) : null;
    if (field === STATUS_FIELD && (wire !== 0 || value === null)) return null;
    // proto3: of a field that comes twice the last counts.
    if (field === STATUS_FIELD && value !== null) status = value.value;
    const end = endOf(wire, tag.end, value);
    if (end === null || end > bytes.length) return null;
    at = end;
  }
  return STATUSES[status] ?? `status ${status}`;
}

/** Where a field ends; null: of a wire type that is none, or without its length. */
function endOf(
  wire: number,
  start: number,
  value: { readonly value: number; readonly end: number } | null,
): number | null {
  if (wire === 1) return start + 8;
  if (wire === 5) return start + 4;
  if (value === null) return null;
  return wire === 0 ? value.end : value.end + value.value;
}

/** Up to 32 bits, which is more than any number here. */
function readVarint(bytes: Buffer, start: number): { readonly value: number; readonly end: number } | null {
  let value = 0;
  for (let at = start; at < bytes.length && at < start + 5; at += 1) {
    const byte = bytes[at] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * (at - start));
    if (byte < 0x80) return value > 0xffff_ffff ? null : { value, end: at + 1 };
  }
  return null;
}
