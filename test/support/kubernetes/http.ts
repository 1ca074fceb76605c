import type { IncomingMessage, ServerResponse } from 'node:http';
import { parse as parseYaml } from 'yaml';
import { messageOf } from '../../../mesh/errors.ts';
import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { decodeProtobuf } from './protobuf.ts';
import { ApiFailure, badRequest } from './status.ts';

const PROTOBUF = 'application/vnd.kubernetes.protobuf';
/** As etcd and the API server bound it. */
const MAX_BODY = 3 * 1024 * 1024;

export const contentType = (request: IncomingMessage): string =>
  (request.headers['content-type'] ?? 'application/json').split(';', 1)[0]?.trim().toLowerCase() ?? '';

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    const bytes = chunk as Buffer;
    size += bytes.length;
    if (size > MAX_BODY)
      throw new ApiFailure('RequestEntityTooLarge', `Request entity too large: limit is ${MAX_BODY}`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

/** The body as JSON, also where it is written as YAML; null where it is empty. @throws ApiFailure 400, 413, 415. */
export async function readJson(request: IncomingMessage, accepted: readonly string[]): Promise<JsonValue> {
  const type = contentType(request);
  const body = await readBody(request);
  if (body.length === 0) return null;
  const text = body.toString();
  const decoded = type === PROTOBUF && accepted.includes('application/json') ? decodeProtobuf(body) : null;
  if (decoded !== null) return decoded;
  if (!accepted.includes(type)) {
    throw new ApiFailure(
      'UnsupportedMediaType',
      `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`,
    );
  }
  try {
    return type.includes('yaml') ? (parseYaml(text) as JsonValue) : (JSON.parse(text) as JsonValue);
  } catch (thrown) {
    throw badRequest(`couldn't get version/kind; json parse error: ${messageOf(thrown)}`);
  }
}

export async function readObject(request: IncomingMessage): Promise<JsonObject> {
  const object = asObject(await readJson(request, ['application/json', 'application/yaml']));
  if (object === null) throw badRequest('the body of the request must be an object');
  return object;
}

export function sendText(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

export function sendJson(response: ServerResponse, status: number, object: JsonObject): void {
  sendText(response, status, 'application/json', JSON.stringify(object));
}

export function sendFailure(response: ServerResponse, thrown: unknown): void {
  const failure =
    thrown instanceof ApiFailure
      ? thrown
      : new ApiFailure('InternalError', `Internal error occurred: ${messageOf(thrown)}`);
  if (failure.code === 401) response.setHeader('www-authenticate', 'Bearer');
  if (failure.code === 429 || failure.code === 503) response.setHeader('retry-after', '1');
  sendJson(response, failure.code, failure.status);
}

/** Control characters and quotes would break the header's syntax (RFC 9111, section 5.5). */
export function warningHeader(text: string): string {
  const shown = text.replaceAll(/[\p{Cc}]/gu, ' ').replaceAll(/["\\]/g, '\\$&');
  return `299 - "${shown}"`;
}
