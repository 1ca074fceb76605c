import { closeSync } from 'node:fs';

/**
 * Closes every descriptor that a worker's bitmap names (bit n of the Int32Array: descriptor n) and clears it. Only for a worker that has ended: its
 * sockets belong to no thread any more, and the kernel would keep them open until the process ends. Returns how many there were.
 */
export function closeDescriptors(bitmap: Int32Array): number {
  let closed = 0;
  for (const [word, bits] of bitmap.entries()) {
    if (bits === 0) continue;
    for (let bit = 0; bit < 32; bit += 1) {
      if ((bits & (1 << bit)) === 0) continue;
      closed += 1;
      try {
        closeSync(word * 32 + bit);
      } catch {
        // EBADF: the worker closed it and died before it could say so.
      }
    }
    bitmap[word] = 0;
  }
  return closed;
}
