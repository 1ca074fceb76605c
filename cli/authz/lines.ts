/** What a line may hold; longer ones are no requests. */
const MAX_LINE_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;

/** A line of the input, without its end; `text` is null where it is too long or not UTF-8, and `problem` says which. */
export interface Line {
  /** From 1. */
  readonly number: number;
  readonly text: string | null;
  readonly problem: string;
}

/** The lines of a stream of bytes as they come, empty ones left out. Holds one line at most, whatever the input. */
export async function* linesOf(input: AsyncIterable<Buffer>): AsyncGenerator<Line> {
  let number = 0;
  let parts: Buffer[] = [];
  let length = 0;
  const add = (part: Buffer): void => {
    length += part.length;
    if (length <= MAX_LINE_BYTES) parts.push(part);
    else parts = [];
  };
  const end = (): Line => {
    number++;
    const line = readLine(number, parts, length);
    parts = [];
    length = 0;
    return line;
  };
  for await (const chunk of input) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      add(chunk.subarray(from, at));
      from = at + 1;
      const line = end();
      if (line.text?.trim() !== '') yield line;
    }
    add(chunk.subarray(from));
  }
  if (length === 0) return;
  const line = end();
  if (line.text?.trim() !== '') yield line;
}

function readLine(number: number, parts: readonly Buffer[], length: number): Line {
  if (length > MAX_LINE_BYTES) return { number, text: null, problem: `is longer than ${MAX_LINE_BYTES} bytes` };
  try {
    return { number, text: new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts)), problem: '' };
  } catch {
    return { number, text: null, problem: 'is not UTF-8' };
  }
}
