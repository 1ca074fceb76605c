import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendText } from './http.ts';

const PROTOBUF = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

/** Numbers of fields (gnostic, `openapiv2/OpenAPIv2.proto`) with the wire type of texts and messages. */
const TAG = { swagger: 0x0a, info: 0x12, title: 0x0a, version: 0x12 } as const;

/** A length-delimited field, shorter than 128 bytes. */
function field(tag: number, body: string | Buffer): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([Buffer.of(tag, bytes.length), bytes]);
}

const TITLE = 'Kubernetes';
const VERSION = 'stand-in';

const DOCUMENT = Buffer.concat([
  field(TAG.swagger, '2.0'),
  field(TAG.info, Buffer.concat([field(TAG.title, TITLE), field(TAG.version, VERSION)])),
]);

/**
 * An OpenAPI v2 document that describes nothing: kubectl, which wants one before it sends anything, then leaves validation to the server. There is no
 * v3 document: kubectl asks for this one instead.
 */
export function sendOpenApi(request: IncomingMessage, response: ServerResponse): void {
  if ((request.headers.accept ?? '').includes('protobuf')) sendText(response, 200, PROTOBUF, DOCUMENT);
  else {
    const document = { swagger: '2.0', info: { title: TITLE, version: VERSION }, paths: {}, definitions: {} };
    sendText(response, 200, 'application/json', JSON.stringify(document));
  }
}
