import type { IncomingMessage } from 'node:http';
import { LIMITS } from '../../mesh/push.ts';
import { ApiError } from '../api-error.ts';
import { CollectedBytes } from '../collected-bytes.ts';

/** How many times its limit is read and thrown away of a body that is too large, so that its sender gets the answer rather than a reset. */
const DISCARD = 4;

/**
 * Reads a JSON body of at most `limit` bytes. How long a peer may take is the server's `requestTimeout`.
 *
 * @throws ApiError 400 or 413; rejects also where the connection breaks
 */
export async function readJsonBody(request: IncomingMessage, limit: number = LIMITS.requestBytes): Promise<unknown> {
  const bytes = await readBytes(request, limit);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ApiError(400, 'bad-request', 'the body is not JSON in UTF-8', { cause: error });
  }
}

/** By events: leaving an async iteration early would destroy the connection before the answer is written. */
function readBytes(request: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const collected = new CollectedBytes(limit);
    request.on('data', (chunk: Buffer) => {
      if (collected.add(chunk) || collected.length <= DISCARD * limit) return;
      request.pause();
      reject(tooLarge(limit));
    });
    request.on('end', () => (collected.length > limit ? reject(tooLarge(limit)) : resolve(collected.bytes)));
    request.on('error', reject);
    request.on('close', () => reject(new ApiError(400, 'aborted', 'the request broke off')));
  });
}

function tooLarge(limit: number): ApiError {
  return new ApiError(413, 'too-large', `the body is larger than ${limit} bytes`);
}
