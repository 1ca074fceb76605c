import type {
  JwksResource,
  MeshConfigResource,
  PolicyResource,
  Resource,
  ResourceKey,
  RevocationsResource,
  SelfResource,
  ServiceResource,
  TrustBundleResource,
  WorkloadResource,
} from '../../mesh/resources.ts';
import { isTrustDomain, parseSpiffeId } from '../../mesh/spiffe-id.ts';
import { parseCidr } from '../../policy/ip.ts';
import { canonicalIp } from './ip-address.ts';

/**
 * Strict reading of one resource from the control plane. The stream is authenticated, yet a bug or a newer version at its other end must not
 * become a crash or a hole here: what does not hold exactly is rejected with a reason. Fields that this version does not know are left out.
 */
export type ReadResource =
  | { readonly ok: true; readonly resource: Resource }
  | { readonly ok: false; readonly key: ResourceKey; readonly reason: string };

const MAX_NAME = 512;
const MAX_ADDRESSES = 64;
/** Kubernetes bounds metadata as a whole, at 256 KiB; with a value of one character that would be as many labels. */
const MAX_LABELS = 4096;
const MAX_BLOCKS = 256;
const MAX_ROOTS = 16;
const MAX_PEM = 16 * 1024;
const MAX_PORTS = 256;
const MAX_PLAINTEXT_PORTS = 4096;
const MAX_ENDPOINTS = 10_000;
const MAX_REVOKED = 100_000;
const MAX_ALIASES = 64;
const MAX_PROVIDERS = 64;
const PATH_MODES = ['NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'] as const;
/** Of a URI that keys are fetched from: Istio's bound of `jwksUri`, and room for the path that discovery adds to an issuer. */
const MAX_URI = 2048 + 64;
const MAX_JWKS = 1024 * 1024;
const SERIAL = /^(?:0|[1-9A-F][0-9A-F]{0,63})$/;
const NAMESPACED = /^[^/\s]{1,253}\/[^/\s]{1,253}$/;

/** Ends the reading of a resource; never leaves this file. */
class Reject extends Error {}

function reject(reason: string): never {
  throw new Reject(reason);
}

type Fields = { readonly [key: string]: unknown };

function fields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) reject(`${what} is not an object`);
  return value as Fields;
}

function text(from: Fields, field: string, max = MAX_NAME): string {
  const value = from[field];
  if (typeof value !== 'string') reject(`${field} is not a string`);
  if (value.length > max) reject(`${field} is longer than ${max} characters`);
  return value;
}

function requiredText(from: Fields, field: string): string {
  const value = text(from, field);
  return value === '' ? reject(`${field} is empty`) : value;
}

function oneOf<const T extends string>(from: Fields, field: string, allowed: readonly T[]): T {
  const value = text(from, field);
  return (
    allowed.find((one) => one === value) ??
    reject(`${field} is ${JSON.stringify(value)}, not one of ${allowed.join(', ')}`)
  );
}

function list<T>(from: Fields, field: string, max: number, read: (item: unknown, what: string) => T): T[] {
  const value = from[field];
  if (!Array.isArray(value)) reject(`${field} is not a list`);
  if (value.length > max) reject(`${field} has more than ${max} entries`);
  return value.map((item, index) => read(item, `${field}[${index}]`));
}

function textItem(item: unknown, what: string): string {
  return typeof item === 'string' && item.length <= MAX_PEM
    ? item
    : reject(`${what} is not a string of bounded length`);
}

function portItem(item: unknown, what: string): number {
  return typeof item === 'number' && Number.isInteger(item) && item >= 1 && item <= 65_535
    ? item
    : reject(`${what} is not a port of 1 to 65535`);
}

function ipItem(item: unknown, what: string): string {
  const address = typeof item === 'string' ? canonicalIp(item) : null;
  return address ?? reject(`${what} is not an IP address`);
}

function blockItem(item: unknown, what: string): string {
  return typeof item === 'string' && parseCidr(item) !== null ? item : reject(`${what} is not a CIDR block`);
}

function trustDomainItem(item: unknown, what: string): string {
  return typeof item === 'string' && isTrustDomain(item) ? item : reject(`${what} is not a trust domain`);
}

function spiffeIdItem(item: unknown, what: string): string {
  return typeof item === 'string' && parseSpiffeId(item) !== null
    ? item
    : reject(`${what} is not a SPIFFE ID of the mesh's form`);
}

function rootItem(item: unknown, what: string): string {
  const pem = textItem(item, what);
  // Readers take the first of several: another root behind it would be trusted without having been looked at.
  return pem.split('-----BEGIN ').length === 2 ? pem : reject(`${what} is not exactly one PEM certificate`);
}

function namespacedName(from: Fields): string {
  const name = text(from, 'name');
  return NAMESPACED.test(name) ? name : reject('name is not <namespace>/<name>');
}

/** `name` of the only resource of its kind. */
function singleton<const T extends string>(from: Fields, name: T): T {
  return oneOf(from, 'name', [name]);
}

function readSelf(from: Fields): SelfResource {
  const labels = Object.entries(fields(from.labels, 'labels'));
  if (labels.length > MAX_LABELS) reject(`labels has more than ${MAX_LABELS} entries`);
  const read = labels.map(([key, value]): [string, string] => [key, textItem(value, `the label ${key}`)]);
  if (typeof from.ended !== 'boolean') reject('ended is not true or false');
  return { kind: 'Self', name: singleton(from, 'self'), labels: Object.fromEntries(read), ended: from.ended };
}

function readMeshConfig(from: Fields): MeshConfigResource {
  return {
    kind: 'MeshConfig',
    name: singleton(from, 'mesh'),
    trustDomain: trustDomainItem(from.trustDomain, 'trustDomain'),
    trustDomainAliases: list(from, 'trustDomainAliases', MAX_ALIASES, trustDomainItem),
    rootNamespace: requiredText(from, 'rootNamespace'),
    outboundTrafficPolicy: oneOf(from, 'outboundTrafficPolicy', ['ALLOW_ANY', 'REGISTRY_ONLY']),
    defaultAction: oneOf(from, 'defaultAction', ['ALLOW', 'DENY']),
    // An older control plane sends neither.
    pathNormalization: from.pathNormalization === undefined ? 'BASE' : oneOf(from, 'pathNormalization', PATH_MODES),
    extensionProviders:
      from.extensionProviders === undefined
        ? []
        : list(from, 'extensionProviders', MAX_PROVIDERS, (item, what) => {
            const provider = fields(item, what);
            return { name: requiredText(provider, 'name'), protocol: oneOf(provider, 'protocol', ['http', 'grpc']) };
          }),
  };
}

function readTrustBundle(from: Fields): TrustBundleResource {
  const roots = list(from, 'roots', MAX_ROOTS, rootItem);
  if (roots.length === 0) reject('roots is empty');
  return { kind: 'TrustBundle', name: singleton(from, 'roots'), roots };
}

function readRevocations(from: Fields): RevocationsResource {
  return {
    kind: 'Revocations',
    name: singleton(from, 'revoked'),
    spiffeIds: list(from, 'spiffeIds', MAX_REVOKED, spiffeIdItem),
    serials: list(from, 'serials', MAX_REVOKED, (item, what) => {
      const serial = textItem(item, what);
      return SERIAL.test(serial) ? serial : reject(`${what} is not a serial number in upper-case hexadecimal`);
    }),
  };
}

function readPolicy(from: Fields, kind: PolicyResource['kind']): PolicyResource {
  return { kind, name: namespacedName(from), object: fields(from.object, 'object') };
}

/** Whether the text is a JWK Set is found where tokens are verified: keys that cannot be read verify nothing. */
function readJwks(from: Fields): JwksResource {
  const name = text(from, 'name', MAX_URI);
  if (name === '') reject('name is empty');
  return { kind: 'Jwks', name, jwks: from.jwks === null ? null : text(from, 'jwks', MAX_JWKS) };
}

function readWorkload(from: Fields): WorkloadResource {
  const name = namespacedName(from);
  const namespace = requiredText(from, 'namespace');
  if (!name.startsWith(`${namespace}/`)) reject('name is not in namespace');
  const protocol = oneOf(from, 'protocol', ['HBONE', 'ISTIO', 'NONE']);
  const identity = from.identity === null ? null : spiffeIdItem(from.identity, 'identity');
  if (identity === null && protocol !== 'NONE') reject(`identity is null, but protocol ${protocol} needs one to check`);
  const addresses = list(from, 'addresses', MAX_ADDRESSES, ipItem);
  if (addresses.length === 0) reject('addresses is empty');
  return {
    kind: 'Workload',
    name,
    namespace,
    serviceAccount: text(from, 'serviceAccount'),
    identity,
    addresses,
    protocol,
    tunnel: from.tunnel === null ? null : readTunnel(fields(from.tunnel, 'tunnel')),
    workloadName: text(from, 'workloadName'),
    app: text(from, 'app'),
    version: text(from, 'version'),
    canonicalService: text(from, 'canonicalService'),
    canonicalRevision: text(from, 'canonicalRevision'),
    cluster: text(from, 'cluster'),
    plaintextPorts: list(from, 'plaintextPorts', MAX_PLAINTEXT_PORTS, portItem),
    ...(from.hostNetwork === true ? { hostNetwork: true } : {}),
  };
}

function readTunnel(from: Fields): { address: string; port: number } {
  return { address: ipItem(from.address, 'tunnel.address'), port: portItem(from.port, 'tunnel.port') };
}

function readService(from: Fields): ServiceResource {
  const name = namespacedName(from);
  const namespace = requiredText(from, 'namespace');
  if (!name.startsWith(`${namespace}/`)) reject('name is not in namespace');
  const ports = list(from, 'ports', MAX_PORTS, (item, what) => {
    const port = fields(item, what);
    return {
      name: text(port, 'name'),
      port: portItem(port.port, `${what}.port`),
      protocol: port.protocol === null ? null : text(port, 'protocol'),
    };
  });
  if (new Set(ports.map(({ port }) => port)).size !== ports.length) reject('ports has the same port twice');
  const endpoints = list(from, 'endpoints', MAX_ENDPOINTS, (item, what) => {
    const endpoint = fields(item, what);
    const portMap: { [servicePort: string]: number } = {};
    for (const [servicePort, port] of Object.entries(fields(endpoint.ports, `${what}.ports`))) {
      if (!ports.some((one) => String(one.port) === servicePort))
        reject(`${what}.ports names a port that the service does not have`);
      portMap[servicePort] = portItem(port, `${what}.ports[${servicePort}]`);
    }
    return { workload: requiredText(endpoint, 'workload'), ports: portMap };
  });
  return {
    kind: 'Service',
    name,
    namespace,
    hostname: requiredText(from, 'hostname'),
    addresses: list(from, 'addresses', MAX_ADDRESSES, ipItem),
    ports,
    endpoints,
    ...(from.passthrough === undefined ? {} : { passthrough: list(from, 'passthrough', MAX_BLOCKS, blockItem) }),
  };
}

function readByKind(from: Fields): Resource {
  const kind = text(from, 'kind');
  switch (kind) {
    case 'Self':
      return readSelf(from);
    case 'MeshConfig':
      return readMeshConfig(from);
    case 'TrustBundle':
      return readTrustBundle(from);
    case 'Revocations':
      return readRevocations(from);
    case 'AuthorizationPolicy':
    case 'PeerAuthentication':
    case 'RequestAuthentication':
      return readPolicy(from, kind);
    case 'Jwks':
      return readJwks(from);
    case 'Workload':
      return readWorkload(from);
    case 'Service':
      return readService(from);
    default:
      return reject(`kind ${JSON.stringify(kind.slice(0, 64))} is unknown to this version of the sidecar`);
  }
}

/** What a rejection is reported under, even where the resource is no resource. */
function keyAsSent(value: unknown): ResourceKey {
  const { kind, name } = (typeof value === 'object' && value !== null ? value : {}) as Fields;
  const part = (of: unknown): string => (typeof of === 'string' ? of.slice(0, MAX_URI) : '?');
  return `${part(kind)}/${part(name)}` as ResourceKey;
}

/** Reads `value`; addresses come out canonical. Never throws for what is wrong with the value. */
export function readResource(value: unknown): ReadResource {
  try {
    return { ok: true, resource: readByKind(fields(value, 'the resource')) };
  } catch (thrown) {
    if (thrown instanceof Reject) return { ok: false, key: keyAsSent(value), reason: thrown.message };
    throw thrown;
  }
}
