/** What a condition looks at. Attributes of TCP exist on every connection; those of HTTP only on its requests. */
export const TCP_ATTRIBUTES = [
  'source.principal',
  'source.namespace',
  'source.serviceAccount',
  'source.trustDomain',
  'source.ip',
  'remote.ip',
  'destination.ip',
  'destination.port',
  'connection.sni',
  'experimental.envoy.filters',
] as const;

export const HTTP_ATTRIBUTES = [
  'request.host',
  'request.method',
  'request.path',
  'request.headers',
  'request.auth.principal',
  'request.auth.audiences',
  'request.auth.presenter',
  'request.auth.claims',
] as const;

export type TcpAttribute = (typeof TCP_ATTRIBUTES)[number];
export type HttpAttribute = (typeof HTTP_ATTRIBUTES)[number];
export type Attribute = TcpAttribute | HttpAttribute;

export function isTcpAttribute(attribute: Attribute): attribute is TcpAttribute {
  return (TCP_ATTRIBUTES as readonly string[]).includes(attribute);
}

interface FieldMeaning {
  readonly attribute: Attribute;
  readonly negated: boolean;
}

function fields(plain: readonly (readonly [name: string, attribute: Attribute])[]): ReadonlyMap<string, FieldMeaning> {
  return new Map(
    plain.flatMap(([name, attribute]): [string, FieldMeaning][] => [
      [name, { attribute, negated: false }],
      [`not${name.charAt(0).toUpperCase()}${name.slice(1)}`, { attribute, negated: true }],
    ]),
  );
}

/** The fields of `from[].source`. */
export const SOURCE_FIELDS = fields([
  ['principals', 'source.principal'],
  ['requestPrincipals', 'request.auth.principal'],
  ['namespaces', 'source.namespace'],
  ['serviceAccounts', 'source.serviceAccount'],
  ['trustDomains', 'source.trustDomain'],
  ['ipBlocks', 'source.ip'],
  ['remoteIpBlocks', 'remote.ip'],
]);

/** The fields of `to[].operation`. */
export const OPERATION_FIELDS = fields([
  ['hosts', 'request.host'],
  ['ports', 'destination.port'],
  ['methods', 'request.method'],
  ['paths', 'request.path'],
]);

/** Attributes whose `when` key carries a name in brackets, such as `request.headers[x-team]`. */
const NAMED: readonly Attribute[] = ['request.headers', 'request.auth.claims', 'experimental.envoy.filters'];
/** Attributes that exist as a field only. */
const FIELD_ONLY: readonly Attribute[] = ['request.host', 'request.method', 'request.path'];

/** Keys of `when` that stand alone. */
export const PLAIN_WHEN_KEYS: readonly Attribute[] = [...TCP_ATTRIBUTES, ...HTTP_ATTRIBUTES].filter(
  (attribute) => !NAMED.includes(attribute) && !FIELD_ONLY.includes(attribute),
);

/** What a `when` key asks for: an attribute, and the text between the outer brackets where it has them. */
export interface WhenKey {
  readonly attribute: Attribute;
  readonly name: string | null;
}

/** Reads a `when` key; null where it is unknown, or lacks the brackets that its attribute needs. */
export function parseWhenKey(key: string): WhenKey | null {
  const plain = PLAIN_WHEN_KEYS.find((attribute) => attribute === key);
  if (plain !== undefined) return { attribute: plain, name: null };
  const open = key.indexOf('[');
  if (open < 0 || !key.endsWith(']') || key.length < open + 3) return null;
  const stem = key.slice(0, open);
  const named = NAMED.find((attribute) =>
    attribute === 'experimental.envoy.filters' ? stem.startsWith(`${attribute}.`) : stem === attribute,
  );
  return named === undefined ? null : { attribute: named, name: key.slice(open + 1, -1) };
}
