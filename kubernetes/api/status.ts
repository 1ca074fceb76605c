import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { KubernetesError } from './errors.ts';

/** Reasons of answers that say none themselves. */
const REASONS: { readonly [status: number]: string } = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  409: 'Conflict',
  410: 'Gone',
  413: 'RequestEntityTooLarge',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

const MAX_MESSAGE = 1000;
/** A server that asks for more is asked again sooner. */
const MAX_RETRY_AFTER_MS = 300_000;

export interface Refusal {
  /** `GET /api/v1/pods`. */
  readonly what: string;
  readonly status: number;
  readonly body: string;
  /** The header. */
  readonly retryAfter: string | null;
  /** The request held secrets, which the answer may quote: only its reason is said. */
  readonly confidential: boolean;
}

/** Of an answer that is not a success; its body is a Status (`kind: Status`), unless something on the way has answered. */
export function refusalOf({ what, status, body, retryAfter, confidential }: Refusal): KubernetesError {
  const object = parseObject(body);
  const isStatus = field(object, 'kind') === 'Status';
  const reason = (isStatus ? asString(field(object, 'reason')) : null) || (REASONS[status] ?? 'Unknown');
  const said = isStatus ? asString(field(object, 'message')) : null;
  const details = confidential || said === null || said === '' ? '' : `: ${said.slice(0, MAX_MESSAGE)}`;
  return new KubernetesError(reason, status, `${what} was refused (${reason}, HTTP ${status})${details}`, {
    retryAfterMs: retryAfterMs(retryAfter) ?? suggestedDelayMs(object),
  });
}

/** Of an ERROR event of a watch, whose object is a Status. */
export function errorOfEvent(what: string, object: JsonObject): KubernetesError {
  const code = field(object, 'code');
  const status = typeof code === 'number' && Number.isInteger(code) ? code : 500;
  const reason = asString(field(object, 'reason')) || (REASONS[status] ?? 'Unknown');
  const said = asString(field(object, 'message')) ?? '';
  const message = `${what} ended with an error (${reason}, ${status})${said === '' ? '' : `: ${said.slice(0, MAX_MESSAGE)}`}`;
  return new KubernetesError(reason, status, message, { retryAfterMs: suggestedDelayMs(object) });
}

/** RFC 9110, section 10.2.3: seconds; API servers send no dates. */
function retryAfterMs(header: string | null): number | null {
  if (header === null || !/^\d{1,9}$/.test(header)) return null;
  return Math.min(Number(header) * 1000, MAX_RETRY_AFTER_MS);
}

function suggestedDelayMs(status: JsonObject | null): number | null {
  const seconds = field(asObject(field(status, 'details')), 'retryAfterSeconds');
  if (typeof seconds !== 'number' || !(seconds > 0)) return null;
  return Math.min(seconds * 1000, MAX_RETRY_AFTER_MS);
}

/** Null where the text is no JSON object. */
export function parseObject(text: string): JsonObject | null {
  try {
    return asObject(JSON.parse(text) as JsonValue);
  } catch {
    return null;
  }
}
