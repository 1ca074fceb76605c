import type { Fields } from '../../protocol/http-head.ts';

const HEADER = 'x-request-id';
/** Bytes that `ensureRequestId` takes of the random ones. */
export const REQUEST_ID_BYTES = 16;

/** Random bytes that are given out once: `take` says where they begin in `bytes`. */
export interface RandomSource {
  readonly bytes: Buffer;
  take(length: number): number;
}

/** @returns the request's ID: the caller's, else a random UUID (RFC 9562, version 4) that is set. */
export function ensureRequestId(head: Fields, random: RandomSource): string {
  const known = head.get(HEADER);
  if (known !== null && known !== '') return known;
  const at = random.take(REQUEST_ID_BYTES);
  const id = uuidOf(random.bytes, at);
  head.put(HEADER, id);
  return id;
}

const HEX_DIGITS = Buffer.from('0123456789abcdef', 'latin1');
/** The text being made: one piece of memory, one string. */
const text = Buffer.from('00000000-0000-0000-0000-000000000000', 'latin1');
/** Where each byte's two digits stand. */
const PLACES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/** A version 4 UUID of the 16 bytes at `at`, which are changed where the version and the variant stand. */
export function uuidOf(bytes: Buffer, at: number): string {
  bytes[at + 6] = ((bytes[at + 6] ?? 0) & 0x0f) | 0x40;
  bytes[at + 8] = ((bytes[at + 8] ?? 0) & 0x3f) | 0x80;
  for (let i = 0; i < REQUEST_ID_BYTES; i++) {
    const byte = bytes[at + i] ?? 0;
    const place = PLACES[i] ?? 0;
    text[place] = HEX_DIGITS[byte >>> 4] ?? 0;
    text[place + 1] = HEX_DIGITS[byte & 15] ?? 0;
  }
  return text.latin1Slice(0, text.length);
}
