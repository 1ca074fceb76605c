import { isIP } from 'node:net';
import {
  type Claims,
  type ConnectionAttributes,
  type JsonObject,
  type JsonValue,
  type PolicyWorkload,
  wireText,
} from '../../policy/index.ts';
import { isObject } from '../mesh-file.ts';

/** What is to be decided, as a line of `authz eval` says it. */
export interface Question {
  readonly workload: PolicyWorkload;
  readonly connection: ConnectionAttributes;
  /** Null on TCP. */
  readonly request: QuestionedRequest | null;
  readonly claims: Claims;
}

/** One byte a character, as in the sidecar. */
interface QuestionedRequest {
  readonly method: string;
  readonly target: string;
  readonly host: string;
  /** Lines by lower-case name. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
}

/** What is wrong with a line; its message says where in it. */
export class MalformedLine extends Error {}

function malformed(message: string): never {
  throw new MalformedLine(message);
}

/**
 * Reads a question strictly: an unknown field is refused, for a misspelt one would change the answer in silence.
 * @throws MalformedLine
 */
export function readQuestion(line: JsonObject): Question {
  const { workload, connection, request, jwt } = new Reader(line, '').only([
    'id',
    'workload',
    'connection',
    'request',
    'jwt',
  ]);
  const reader = new Reader(object(connection, 'connection'), 'connection');
  const protocol = reader.text('protocol');
  if (protocol !== 'http' && protocol !== 'tcp') malformed('connection.protocol must be "http" or "tcp"');
  if (protocol === 'tcp' && (request ?? null) !== null) malformed('request has no place where protocol is "tcp"');
  return {
    workload: readWorkload(object(workload, 'workload')),
    connection: readConnection(reader),
    request: protocol === 'tcp' ? null : readRequest(object(request, 'request')),
    claims: (jwt ?? null) === null ? null : object(jwt, 'jwt'),
  };
}

function readWorkload(value: JsonObject): PolicyWorkload {
  const reader = new Reader(value, 'workload');
  const { labels = {} } = reader.only(['namespace', 'serviceAccount', 'labels']);
  reader.optionalText('serviceAccount', '');
  const strings: { [key: string]: string } = {};
  for (const [key, label] of Object.entries(object(labels, 'workload.labels'))) {
    strings[key] = typeof label === 'string' ? label : malformed(`workload.labels.${key} must be a string`);
  }
  return { namespace: reader.text('namespace') || malformed('workload.namespace is empty'), labels: strings };
}

function readConnection(reader: Reader): ConnectionAttributes {
  const { sourcePrincipal = null, destinationPort } = reader.only([
    'protocol',
    'sourcePrincipal',
    'sourceIp',
    'destinationIp',
    'destinationPort',
    'sni',
  ]);
  if (sourcePrincipal !== null && typeof sourcePrincipal !== 'string') {
    malformed('connection.sourcePrincipal must be a string or null');
  }
  const isPort = typeof destinationPort === 'number' && Number.isInteger(destinationPort);
  if (!isPort || destinationPort < 0 || destinationPort > 65_535) {
    malformed('connection.destinationPort must be a number from 0 to 65535');
  }
  return {
    sourcePrincipal,
    sourceIp: reader.address('sourceIp'),
    destinationIp: reader.address('destinationIp'),
    destinationPort,
    sni: reader.optionalText('sni', ''),
  };
}

function readRequest(value: JsonObject): QuestionedRequest {
  const reader = new Reader(value, 'request');
  const { headers = {} } = reader.only(['method', 'path', 'host', 'headers']);
  return {
    method: wireText(reader.text('method')),
    target: wireText(reader.text('path')),
    host: wireText(reader.optionalText('host', '')),
    headers: readHeaders(object(headers, 'request.headers')),
  };
}

function readHeaders(headers: JsonObject): ReadonlyMap<string, readonly string[]> {
  const lines = new Map<string, string[]>();
  for (const [name, value] of Object.entries(headers)) {
    const values: readonly JsonValue[] = Array.isArray(value) ? value : [value];
    const key = wireText(name).toLowerCase();
    const known = lines.get(key) ?? [];
    for (const one of values) {
      if (typeof one !== 'string') malformed(`request.headers.${name} must be a string or a list of strings`);
      known.push(wireText(one));
    }
    lines.set(key, known);
  }
  return lines;
}

function object(value: JsonValue | undefined, what: string): JsonObject {
  if (value === undefined) malformed(`${what} is missing`);
  return isObject(value) ? value : malformed(`${what} must be an object`);
}

/** Fields of one object of the line; `path` leads to it. */
class Reader {
  readonly #value: JsonObject;
  readonly #path: string;

  constructor(value: JsonObject, path: string) {
    this.#value = value;
    this.#path = path;
  }

  only(known: readonly string[]): { readonly [field: string]: JsonValue | undefined } {
    const unknown = Object.keys(this.#value).find((name) => !known.includes(name));
    if (unknown !== undefined) {
      malformed(`unknown field ${JSON.stringify(this.#name(unknown))}; known here are ${known.join(', ')}`);
    }
    return this.#value;
  }

  text(field: string): string {
    const value = this.#value[field];
    if (value === undefined) malformed(`${this.#name(field)} is missing`);
    return typeof value === 'string' ? value : malformed(`${this.#name(field)} must be a string`);
  }

  optionalText(field: string, fallback: string): string {
    return (this.#value[field] ?? null) === null ? fallback : this.text(field);
  }

  /** Empty where it is not known: then nothing that asks for it is allowed. */
  address(field: string): string {
    const text = this.optionalText(field, '');
    return text === '' || isIP(text) !== 0 ? text : malformed(`${this.#name(field)} must be an IP address`);
  }

  #name(field: string): string {
    return this.#path === '' ? field : `${this.#path}.${field}`;
  }
}
