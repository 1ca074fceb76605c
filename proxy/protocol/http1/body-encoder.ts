import type { Http1Trailers } from './fields.ts';
import { CR, LF } from './grammar.ts';

/** Most bytes that `writeChunkHead` writes: a size below 2^48 and CRLF. */
export const MAX_CHUNK_HEAD_BYTES = 14;
/** Bytes that `writeChunkEnd` writes. */
export const CHUNK_END_BYTES = 2;

const DIGITS = Buffer.from('0123456789abcdef', 'latin1');

/**
 * Writes the line before a chunk of so many bytes (RFC 9112, section 7.1).
 * @returns the position after it
 * @throws RangeError for 0, which would end the body, or 2^48 and more
 */
export function writeChunkHead(to: Buffer, at: number, length: number): number {
  if (length < 1 || length >= 2 ** 48) throw new RangeError(`${length} bytes are no chunk`);
  let digits = 1;
  for (let rest = length; rest >= 16; rest /= 16) digits++;
  const end = at + digits;
  if (to.length < end + 2) throw new RangeError('no room for the head of a chunk');
  let rest = length;
  for (let p = end - 1; p >= at; p--) {
    to[p] = DIGITS[rest % 16] ?? 0;
    rest = Math.floor(rest / 16);
  }
  return writeChunkEnd(to, end);
}

/** Writes the CRLF after a chunk's data. @returns the position after it */
export function writeChunkEnd(to: Buffer, at: number): number {
  to[at] = CR;
  to[at + 1] = LF;
  return at + CHUNK_END_BYTES;
}

const LAST_CHUNK = '0\r\n';

/** Bytes that `writeLastChunk` writes at most. */
export function lastChunkBytes(trailers: Http1Trailers | null): number {
  return LAST_CHUNK.length + CHUNK_END_BYTES + (trailers?.encodedBytes() ?? 0);
}

/** Writes the end of a chunked body. @returns the position after it @throws RangeError where there is less room than `lastChunkBytes` */
export function writeLastChunk(to: Buffer, at: number, trailers: Http1Trailers | null): number {
  if (to.length - at < lastChunkBytes(trailers)) throw new RangeError('no room for the end of a body');
  let p = at + to.latin1Write(LAST_CHUNK, at);
  if (trailers !== null) p = trailers.encode(to, p);
  return writeChunkEnd(to, p);
}
