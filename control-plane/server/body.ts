import type { IncomingMessage } from 'node:http';
import { LIMITS } from '../../mesh/push.ts';
import { ApiError } from '../api-error.ts';

/**
 * Reads a JSON body of at most `LIMITS.requestBytes`. How long a peer may take is the server's `requestTimeout`.
 *
 * @throws ApiError 400 or 413; rejects also where the connection breaks
 */
export async function readJsonBody(request: IncomingMessage): Promise<unknown> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > LIMITS.requestBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) throw new TypeError('a request body must be read as bytes');
    length += chunk.length;
    if (length > LIMITS.requestBytes) throw tooLarge();
    chunks.push(chunk);
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)));
  } catch (error) {
    throw new ApiError(400, 'bad-request', 'the body is not JSON in UTF-8', { cause: error });
  }
}

function tooLarge(): ApiError {
  return new ApiError(413, 'too-large', `the body is larger than ${LIMITS.requestBytes} bytes`);
}
