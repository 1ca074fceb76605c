import { NativeBuffer } from '../../native/memory.ts';
import type { Channel } from '../../reactor/channel.ts';

const FIRST_BYTES = 64 * 1024;
/** Far above every limit on heads. */
const MAX_BYTES = 4 * 1024 * 1024;

let buffer: NativeBuffer | null = null;

/**
 * Where this thread's sessions encode what they write by themselves: heads, chunk heads, trailers. What is in it is written to a channel at once:
 * the next call overwrites it. @throws RangeError above 4 MiB
 */
export function wireBuffer(bytes: number): NativeBuffer {
  if (buffer !== null && bytes <= buffer.size) return buffer;
  if (bytes > MAX_BYTES) throw new RangeError(`a head of ${bytes} bytes`);
  let size = buffer?.size ?? FIRST_BYTES;
  while (size < bytes) size *= 2;
  buffer?.free();
  buffer = new NativeBuffer(size);
  return buffer;
}

/** Writes bytes of JavaScript's memory. */
export function writeBytes(channel: Channel, bytes: Buffer): void {
  const wire = wireBuffer(bytes.length);
  bytes.copy(wire.bytes);
  channel.write(wire, 0, bytes.length);
}
