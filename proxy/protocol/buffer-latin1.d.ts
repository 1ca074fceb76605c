/** Node's own methods behind `toString('latin1')` and `write(text, 'latin1')`, undocumented but there since io.js: without the search for the encoding they cost half. */
interface Buffer<TArrayBuffer extends ArrayBufferLike = ArrayBufferLike> {
  latin1Slice(start: number, end: number): string;
  /** @param length most characters of the text that are written; all where it is left out @returns bytes written. */
  latin1Write(text: string, at: number, length?: number): number;
}
