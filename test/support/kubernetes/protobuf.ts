import type { JsonObject, JsonValue } from '../../../policy/types.ts';

/**
 * Kubernetes' protobuf, read: `kubectl create token`, `auth can-i` and a few others write their bodies so, whatever they are answered in. The kinds
 * that they write are here by the numbers of their fields (k8s.io/api, generated.proto); of other kinds the server asks for JSON.
 */

type Shape = { readonly [number: number]: readonly [name: string, kind: FieldKind, repeated?: 'list'] };
type FieldKind = 'text' | 'number' | 'boolean' | 'texts' | 'bytes' | Shape;

const META: Shape = {
  1: ['name', 'text'],
  2: ['generateName', 'text'],
  3: ['namespace', 'text'],
  5: ['uid', 'text'],
  6: ['resourceVersion', 'text'],
  11: ['labels', 'texts'],
  12: ['annotations', 'texts'],
};

const BOUND: Shape = { 1: ['kind', 'text'], 2: ['apiVersion', 'text'], 3: ['name', 'text'], 4: ['uid', 'text'] };

const RESOURCE_ATTRIBUTES: Shape = {
  1: ['namespace', 'text'],
  2: ['verb', 'text'],
  3: ['group', 'text'],
  4: ['version', 'text'],
  5: ['resource', 'text'],
  6: ['subresource', 'text'],
  7: ['name', 'text'],
};

const PATH_ATTRIBUTES: Shape = { 1: ['path', 'text'], 2: ['verb', 'text'] };
const ACCESS: Shape = { 1: ['resourceAttributes', RESOURCE_ATTRIBUTES], 2: ['nonResourceAttributes', PATH_ATTRIBUTES] };
const TOKEN: Shape = {
  1: ['audiences', 'text', 'list'],
  3: ['boundObjectRef', BOUND],
  4: ['expirationSeconds', 'number'],
};
const withSpec = (spec: Shape): Shape => ({ 1: ['metadata', META], 2: ['spec', spec] });

const KINDS: { readonly [kind: string]: Shape } = {
  TokenRequest: withSpec(TOKEN),
  SelfSubjectAccessReview: withSpec(ACCESS),
  SelfSubjectRulesReview: withSpec({ 1: ['namespace', 'text'] }),
  SelfSubjectReview: { 1: ['metadata', META] },
  Namespace: { 1: ['metadata', META] },
  ServiceAccount: { 1: ['metadata', META] },
  ConfigMap: { 1: ['metadata', META], 2: ['data', 'texts'], 3: ['binaryData', 'bytes'], 4: ['immutable', 'boolean'] },
  Secret: { 1: ['metadata', META], 2: ['data', 'bytes'], 3: ['type', 'text'], 5: ['immutable', 'boolean'] },
};

const MAGIC = Buffer.from('k8s\0');
const ENVELOPE: Shape = { 1: ['typeMeta', { 1: ['apiVersion', 'text'], 2: ['kind', 'text'] }] };
const RAW_FIELD = 2;

/** Null where it is of a kind that is not known here. @throws RangeError where it is cut short. */
export function decodeProtobuf(body: Buffer): JsonObject | null {
  if (!body.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  const envelope = body.subarray(MAGIC.length);
  const { typeMeta } = decode(envelope, ENVELOPE) as {
    readonly typeMeta?: { readonly apiVersion?: string; readonly kind?: string };
  };
  const shape = typeMeta?.kind === undefined ? undefined : KINDS[typeMeta.kind];
  if (shape === undefined) return null;
  const raw = fieldsOf(envelope).find(({ number }) => number === RAW_FIELD);
  return {
    apiVersion: typeMeta?.apiVersion ?? '',
    kind: typeMeta?.kind ?? '',
    ...decode(raw?.bytes ?? Buffer.alloc(0), shape),
  };
}

interface WireField {
  readonly number: number;
  /** Of a varint. */
  readonly value: number;
  /** Of a length-delimited field. */
  readonly bytes: Buffer;
}

function fieldsOf(message: Buffer): readonly WireField[] {
  const fields: WireField[] = [];
  let position = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message.readUInt8(position++);
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (position < message.length) {
    const tag = varint();
    const number = tag >>> 3;
    const wire = tag & 7;
    if (wire === 0) fields.push({ number, value: varint(), bytes: Buffer.alloc(0) });
    else if (wire === 2) {
      const length = varint();
      fields.push({ number, value: 0, bytes: message.subarray(position, position + length) });
      position += length;
    } else position += wire === 1 ? 8 : 4;
  }
  return fields;
}

const isShape = (kind: FieldKind): kind is Shape => typeof kind === 'object';
const ENTRY = { key: 1, value: 2 } as const;

function decode(message: Buffer, shape: Shape): JsonObject {
  const result: { [name: string]: JsonValue } = {};
  for (const field of fieldsOf(message)) {
    const [name, kind, repeated] = shape[field.number] ?? [];
    if (name === undefined || kind === undefined) continue;
    if (kind === 'texts' || kind === 'bytes') {
      const [key, value] = entryOf(field.bytes, kind === 'texts' ? 'utf8' : 'base64');
      result[name] = { ...(result[name] as JsonObject | undefined), [key]: value };
    } else if (repeated === 'list')
      result[name] = [...((result[name] as readonly JsonValue[] | undefined) ?? []), scalar(field, kind)];
    else {
      const value = scalar(field, kind);
      // Texts that are not set are written as empty ones.
      if (value !== '') result[name] = value;
    }
  }
  return result;
}

function scalar(field: WireField, kind: FieldKind): JsonValue {
  if (isShape(kind)) return decode(field.bytes, kind);
  if (kind === 'boolean') return field.value === 1;
  return kind === 'number' ? field.value : field.bytes.toString();
}

function entryOf(entry: Buffer, encoding: 'utf8' | 'base64'): readonly [string, string] {
  const find = (number: number): Buffer =>
    fieldsOf(entry).find((field) => field.number === number)?.bytes ?? Buffer.alloc(0);
  return [find(ENTRY.key).toString(), find(ENTRY.value).toString(encoding)];
}
