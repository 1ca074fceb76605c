import { PosternError } from './errors.ts';

const NEWLINE = 0x0a;

/** Splits a stream of bytes into lines of at most `maxBytes`; holds at most one unfinished line. */
export class LineSplitter {
  readonly #maxBytes: number;
  readonly #peer: string;
  #parts: Buffer[] = [];
  #held = 0;

  /** @param peer Whose bytes they are, for the message. */
  constructor(maxBytes: number, peer: string) {
    this.#maxBytes = maxBytes;
    this.#peer = peer;
  }

  /** The lines that `chunk` completes, without their newlines; empty ones are left out. @throws PosternError ERR_LINE_TOO_LONG. */
  *push(chunk: Buffer): Generator<string> {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      this.#hold(chunk.subarray(from, end));
      from = end + 1;
      const line = Buffer.concat(this.#parts, this.#held).toString('utf8').trimEnd();
      this.#parts = [];
      this.#held = 0;
      if (line !== '') yield line;
    }
    if (from < chunk.length) this.#hold(chunk.subarray(from));
  }

  #hold(part: Buffer): void {
    this.#held += part.length;
    if (this.#held > this.#maxBytes) {
      throw new PosternError('ERR_LINE_TOO_LONG', `a line of more than ${this.#maxBytes} bytes from ${this.#peer}`);
    }
    this.#parts.push(part);
  }
}
