import type { LocalReply } from '../http-head.ts';
import { hashOf, isCodecField } from './field-names.ts';
import { isAdmissibleValue, isLowerCaseToken } from './grammar.ts';

/** RFC 9110, section 15; what sidecars answer themselves. */
const REASONS: { readonly [status: number]: string } = {
  200: 'OK',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  421: 'Misdirected Request',
  426: 'Upgrade Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
};

/**
 * The bytes of a response that the sidecar makes itself: always with Content-Length, so that the connection may go on unless `close`.
 * @param options.headRequest it answers HEAD: the head is the same, the body is left out
 * @param options.keepAlive it answers HTTP/1.0, where a connection that stays must be said to
 * @throws RangeError where a name or value is not admissible, the field is the codec's own, or the status is none with a body
 */
export function localResponse(
  { status, headers, body }: LocalReply,
  options: { readonly headRequest: boolean; readonly close: boolean; readonly keepAlive?: boolean },
): Buffer {
  if (!Number.isInteger(status) || status < 200 || status > 599 || status === 204 || status === 304) {
    throw new RangeError(`${status} is no status of a local reply`);
  }
  const content = Buffer.from(body, 'utf8');
  let head = `HTTP/1.1 ${status} ${REASONS[status] ?? ''}\r\n`;
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    if (!isAdmissibleValue(name) || !isLowerCaseToken(lower) || isCodecField(lower, hashOf(lower)))
      throw new RangeError(`${name} is no field of a local reply`);
    if (!isAdmissibleValue(value)) throw new RangeError(`the value of ${lower} has control or wide characters`);
    head += `${lower}: ${value}\r\n`;
  }
  head += `Content-Length: ${content.length}\r\n`;
  if (options.close) head += 'Connection: close\r\n';
  else if (options.keepAlive === true) head += 'Connection: keep-alive\r\n';
  const bytes = Buffer.from(`${head}\r\n`, 'latin1');
  return options.headRequest ? bytes : Buffer.concat([bytes, content]);
}
