import { createReadStream } from 'node:fs';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';

/** The text of a file, or of the standard input (`-`), of at most `limit` bytes. @throws PosternError ERR_INPUT */
export async function readInput(file: string, limit: number): Promise<string> {
  const bytes = await readBytes(file, limit);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw inputError(`${file} is not UTF-8`, EXIT.dataError, error);
  }
}

/** As a stream: a pipe has nothing to read while the program before it is still at work. */
async function readBytes(file: string, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  const stream: AsyncIterable<Buffer> = file === '-' ? process.stdin : createReadStream(file);
  try {
    for await (const chunk of stream) {
      length += chunk.length;
      if (length > limit) throw inputError(`${file} is larger than ${limit} bytes: split it`, EXIT.dataError, null);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof PosternError) throw error;
    throw inputError(`cannot read ${file}: ${messageOf(error)}`, EXIT.noInput, error);
  }
  return Buffer.concat(chunks);
}

function inputError(
  message: string,
  exitCode: typeof EXIT.dataError | typeof EXIT.noInput,
  cause: unknown,
): PosternError {
  return new PosternError('ERR_INPUT', message, { exitCode, cause });
}
