import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import type { ServedType } from './type-registry.ts';

/** Codes of the reasons that a Status names (apimachinery, `pkg/api/errors`). */
const CODES = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  AlreadyExists: 409,
  Conflict: 409,
  Expired: 410,
  Gone: 410,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  ServiceUnavailable: 503,
  Timeout: 504,
} as const;

export type Reason = keyof typeof CODES;

/** What a field is wrong about, as `details.causes` names it. */
export interface Cause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

/** An answer that is not a success; becomes a Status object. */
export class ApiFailure extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: JsonObject | null;

  constructor(reason: Reason | '', message: string, options: { details?: JsonObject; code?: number } = {}) {
    super(message);
    this.name = 'ApiFailure';
    this.code = options.code ?? (reason === '' ? 500 : CODES[reason]);
    this.reason = reason;
    this.details = options.details ?? null;
  }

  get status(): JsonObject {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      ...(this.reason === '' ? {} : { reason: this.reason }),
      ...(this.details === null ? {} : { details: this.details }),
      code: this.code,
    };
  }
}

/** `pods`, `deployments.apps`: how messages name a resource. */
export const resourceText = ({ group, plural }: Pick<ServedType, 'group' | 'plural'>): string =>
  group === '' ? plural : `${plural}.${group}`;

const detailsOf = ({ group, plural }: ServedType, name: string): JsonObject => ({
  name,
  ...(group === '' ? {} : { group }),
  kind: plural,
});

export const notFound = (type: ServedType, name: string): ApiFailure =>
  new ApiFailure('NotFound', `${resourceText(type)} "${name}" not found`, { details: detailsOf(type, name) });

export const alreadyExists = (type: ServedType, name: string): ApiFailure =>
  new ApiFailure('AlreadyExists', `${resourceText(type)} "${name}" already exists`, { details: detailsOf(type, name) });

export const conflict = (type: ServedType, name: string, why: string): ApiFailure =>
  new ApiFailure('Conflict', `Operation cannot be fulfilled on ${resourceText(type)} "${name}": ${why}`, {
    details: detailsOf(type, name),
  });

export const staleVersion = (type: ServedType, name: string): ApiFailure =>
  conflict(type, name, 'the object has been modified; please apply your changes to the latest version and try again');

export const badRequest = (message: string): ApiFailure => new ApiFailure('BadRequest', message);

export const noSuchPath = (): ApiFailure =>
  new ApiFailure('NotFound', 'the server could not find the requested resource', { details: {} });

export const methodNotAllowed = (): ApiFailure =>
  new ApiFailure('MethodNotAllowed', 'the server does not allow this method on the requested resource', {
    details: {},
  });

export const expired = (message: string): ApiFailure => new ApiFailure('Expired', message);

export function invalid(type: ServedType, name: string, causes: readonly Cause[]): ApiFailure {
  const texts = causes.map(({ field, message }) => `${field}: ${message}`);
  const all = texts.length === 1 ? texts.join('') : `[${texts.join(', ')}]`;
  const kind = type.group === '' ? type.kind : `${type.kind}.${type.group}`;
  return new ApiFailure('Invalid', `${kind} "${name}" is invalid: ${all}`, {
    details: {
      name,
      ...(type.group === '' ? {} : { group: type.group }),
      kind: type.kind,
      causes: causes.map((cause) => ({ ...cause })),
    },
  });
}

export const required = (field: string, hint = ''): Cause => ({
  reason: 'FieldValueRequired',
  message: hint === '' ? 'Required value' : `Required value: ${hint}`,
  field,
});

export const wrong = (field: string, value: JsonValue, hint: string): Cause => ({
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${JSON.stringify(value)}: ${hint}`,
  field,
});

export const unsupported = (field: string, value: JsonValue, supported: readonly string[]): Cause => ({
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported.map((one) => JSON.stringify(one)).join(', ')}`,
  field,
});
