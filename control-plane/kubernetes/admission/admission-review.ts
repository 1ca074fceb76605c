import { asObject, asString, field, isAbsent } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { type Finding, pathText } from '../../../policy/validate/findings.ts';
import { ApiError } from '../../api-error.ts';

const API_VERSION = 'admission.k8s.io/v1';
const KIND = 'AdmissionReview';

/** What the API server asks. The object is not looked into yet. */
export interface AdmissionRequest {
  readonly uid: string;
  /** Of the object as sent: empty group for the core. */
  readonly kind: { readonly group: string; readonly version: string; readonly kind: string };
  /** E.g. `status`, `ephemeralcontainers`; empty for the object itself. */
  readonly subResource: string;
  readonly operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';
  /** Empty for cluster-scoped objects. */
  readonly namespace: string;
  /** Empty where the API server will make one up. */
  readonly name: string;
  /** Null on DELETE. */
  readonly object: JsonObject | null;
  /** Null on CREATE. */
  readonly oldObject: JsonObject | null;
}

/** The answer. `warnings` are shown to whoever asked the API server. */
export interface AdmissionAnswer {
  readonly allowed: boolean;
  readonly warnings: readonly string[];
  /** Null where nothing is to be changed. */
  readonly patch: readonly JsonObject[] | null;
  /** Why it was refused; null where it was not. */
  readonly refusal: Refusal | null;
}

export interface Refusal {
  readonly message: string;
  readonly causes: readonly Finding[];
}

export const ALLOWED: AdmissionAnswer = { allowed: true, warnings: [], patch: null, refusal: null };

/** More than the API server keeps: 4 KiB in all, 256 characters each. */
const MAX_WARNINGS = 20;
const MAX_WARNING_LENGTH = 256;
const MAX_CAUSES = 20;
const MAX_MESSAGE_LENGTH = 8 * 1024;
const OPERATIONS = ['CREATE', 'UPDATE', 'DELETE', 'CONNECT'] as const;

/** Reads an AdmissionReview v1 strictly in what is used of it; fields that are not may be anything, since the API grows. @throws ApiError 400 */
export function readAdmissionReview(body: unknown): AdmissionRequest {
  const review = mapOf(body as JsonValue, 'the body');
  if (field(review, 'apiVersion') !== API_VERSION || field(review, 'kind') !== KIND) {
    throw malformed(`the body is no ${KIND} of ${API_VERSION}`);
  }
  const request = mapOf(field(review, 'request'), 'request');
  const kind = mapOf(field(request, 'kind'), 'request.kind');
  const operation = OPERATIONS.find((known) => known === field(request, 'operation'));
  if (operation === undefined) throw malformed(`request.operation must be one of ${OPERATIONS.join(', ')}`);
  const uid = textOf(request, 'uid', 'request.uid');
  if (uid === '' || uid.length > 256) throw malformed('request.uid must be a text of 1 to 256 characters');
  return {
    uid,
    kind: {
      group: textOf(kind, 'group', 'request.kind.group'),
      version: textOf(kind, 'version', 'request.kind.version'),
      kind: textOf(kind, 'kind', 'request.kind.kind'),
    },
    subResource: textOf(request, 'subResource', 'request.subResource'),
    operation,
    namespace: textOf(request, 'namespace', 'request.namespace'),
    name: textOf(request, 'name', 'request.name'),
    object: optionalMap(request, 'object'),
    oldObject: optionalMap(request, 'oldObject'),
  };
}

/** The AdmissionReview that answers the request of that UID. */
export function admissionReview(uid: string, answer: AdmissionAnswer): JsonObject {
  const { allowed, warnings, patch, refusal } = answer;
  const changes = patch === null || patch.length === 0 ? {} : { patchType: 'JSONPatch', patch: base64(patch) };
  return {
    apiVersion: API_VERSION,
    kind: KIND,
    response: {
      uid,
      allowed,
      ...changes,
      ...(refusal === null ? {} : { status: statusOf(refusal) }),
      ...(warnings.length === 0 ? {} : { warnings: bounded(warnings) }),
    },
  };
}

/** The texts of findings, with the place of each within the object. */
export function findingText({ path, message }: Finding): string {
  return path.length === 0 ? message : `${pathText(path)}: ${message}`;
}

/** A Status as the API server hands it on to whoever asked. */
function statusOf({ message, causes }: Refusal): JsonObject {
  const details = causes.slice(0, MAX_CAUSES).map((finding) => ({
    reason: 'FieldValueInvalid',
    field: pathText(finding.path).slice(0, MAX_WARNING_LENGTH),
    message: finding.message.slice(0, MAX_WARNING_LENGTH),
  }));
  return {
    status: 'Failure',
    code: 422,
    reason: 'Invalid',
    message: message.slice(0, MAX_MESSAGE_LENGTH),
    ...(details.length === 0 ? {} : { details: { causes: details } }),
  };
}

function bounded(warnings: readonly string[]): readonly string[] {
  const cut = warnings.map((text) =>
    text.length > MAX_WARNING_LENGTH ? `${text.slice(0, MAX_WARNING_LENGTH - 1)}…` : text,
  );
  if (cut.length <= MAX_WARNINGS) return cut;
  return [...cut.slice(0, MAX_WARNINGS - 1), `and ${cut.length - MAX_WARNINGS + 1} more warnings`];
}

function base64(patch: readonly JsonObject[]): string {
  return Buffer.from(JSON.stringify(patch)).toString('base64');
}

function mapOf(value: JsonValue | undefined, what: string): JsonObject {
  const object = asObject(value);
  if (object === null) throw malformed(`${what} must be a map`);
  return object;
}

function optionalMap(request: JsonObject, key: string): JsonObject | null {
  const value = field(request, key);
  return isAbsent(value) ? null : mapOf(value, `request.${key}`);
}

function textOf(object: JsonObject, key: string, what: string): string {
  const value = field(object, key);
  if (isAbsent(value)) return '';
  const text = asString(value);
  if (text === null) throw malformed(`${what} must be a text`);
  return text;
}

function malformed(message: string): ApiError {
  return new ApiError(400, 'bad-request', message);
}
