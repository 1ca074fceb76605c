import type { IncomingMessage } from 'node:http';
import { LIMITS } from '../../mesh/push.ts';
import { ApiError } from '../api-error.ts';

/** What is read and thrown away of a body that is too large, so that its sender gets the answer rather than a reset. */
const DISCARD_BYTES = 4 * LIMITS.requestBytes;

/**
 * Reads a JSON body of at most `LIMITS.requestBytes`. How long a peer may take is the server's `requestTimeout`.
 *
 * @throws ApiError 400 or 413; rejects also where the connection breaks
 */
export async function readJsonBody(request: IncomingMessage): Promise<unknown> {
  const bytes = await readBytes(request);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ApiError(400, 'bad-request', 'the body is not JSON in UTF-8', { cause: error });
  }
}

/** By events: leaving an async iteration early would destroy the connection before the answer is written. */
function readBytes(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= LIMITS.requestBytes) {
        chunks.push(chunk);
        return;
      }
      chunks.length = 0;
      if (length <= DISCARD_BYTES) return;
      request.pause();
      reject(tooLarge());
    });
    request.on('end', () => (length > LIMITS.requestBytes ? reject(tooLarge()) : resolve(Buffer.concat(chunks))));
    request.on('error', reject);
    request.on('close', () => reject(new ApiError(400, 'aborted', 'the request broke off')));
  });
}

function tooLarge(): ApiError {
  return new ApiError(413, 'too-large', `the body is larger than ${LIMITS.requestBytes} bytes`);
}
