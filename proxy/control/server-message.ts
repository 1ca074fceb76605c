import { messageOf, PosternError } from '../../mesh/errors.ts';
import type { ServerMessage } from '../../mesh/push.ts';
import { keyOf, type RejectedResource, type Resource, type ResourceKey } from '../../mesh/resources.ts';

/** What the control plane asks the sidecar to hold, and what of it the sidecar cannot even read. */
export interface Delta {
  readonly version: string;
  readonly full: boolean;
  readonly upserts: readonly Resource[];
  readonly removes: readonly ResourceKey[];
  readonly unreadable: readonly RejectedResource[];
}

export type StreamMessage =
  | { readonly type: 'delta'; readonly delta: Delta }
  | Exclude<ServerMessage, { type: 'delta' }>
  /** Of a newer control plane; to be passed over. */
  | { readonly type: 'unknown'; readonly name: string };

type Fields = Readonly<Record<string, unknown>>;

const MAX_VERSION_LENGTH = 256;

const isText = (value: unknown): value is string => typeof value === 'string';
const areTexts = (value: unknown): boolean => Array.isArray(value) && value.every(isText);
const isMap = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The parts of each kind that the data plane dereferences without asking; workers check what the parts mean. */
const WELL_FORMED: Readonly<Record<Resource['kind'], (fields: Fields) => boolean>> = {
  Self: (f) =>
    f.name === 'self' && isMap(f.labels) && areTexts(Object.values(f.labels)) && typeof f.ended === 'boolean',
  MeshConfig: (f) => f.name === 'mesh' && isText(f.trustDomain) && areTexts(f.trustDomainAliases),
  TrustBundle: (f) => f.name === 'roots' && areTexts(f.roots),
  Revocations: (f) => f.name === 'revoked' && areTexts(f.spiffeIds) && areTexts(f.serials),
  AuthorizationPolicy: (f) => isMap(f.object),
  PeerAuthentication: (f) => isMap(f.object),
  RequestAuthentication: (f) => isMap(f.object),
  Jwks: (f) => f.jwks === null || isText(f.jwks),
  Workload: (f) => areTexts(f.addresses) && isText(f.protocol) && Array.isArray(f.plaintextPorts),
  Service: (f) => areTexts(f.addresses) && Array.isArray(f.ports) && Array.isArray(f.endpoints),
};

/**
 * Reads one line of the stream. A resource that is malformed or of an unknown kind is set aside to be rejected; anything else that is wrong
 * means that the two sides do not understand each other. @throws PosternError ERR_PUSH_PROTOCOL.
 */
export function parseServerMessage(line: string): StreamMessage {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw protocolError(`a line that is not JSON (${messageOf(error)})`);
  }
  if (!isMap(value) || !isText(value.type)) throw protocolError('a message without a type');
  switch (value.type) {
    case 'heartbeat':
      return { type: 'heartbeat' };
    case 'goodbye':
      return {
        type: 'goodbye',
        reason: isText(value.reason) ? value.reason : 'no reason given',
        renew: value.renew === true,
      };
    case 'delta':
      return { type: 'delta', delta: readDelta(value) };
    default:
      return { type: 'unknown', name: value.type.slice(0, 64) };
  }
}

function readDelta(value: Fields): Delta {
  const { version, full, upserts, removes } = value;
  if (!isText(version) || version === '' || version.length > MAX_VERSION_LENGTH)
    throw protocolError('a delta without a version');
  if (typeof full !== 'boolean' || !Array.isArray(upserts) || !areTexts(removes))
    throw protocolError(`a malformed delta ${version}`);
  const readable: Resource[] = [];
  const unreadable: RejectedResource[] = [];
  for (const resource of upserts as readonly unknown[]) {
    if (!isMap(resource) || !isText(resource.kind) || !isText(resource.name)) {
      throw protocolError(`a resource without kind and name in delta ${version}`);
    }
    const check = Object.hasOwn(WELL_FORMED, resource.kind) ? WELL_FORMED[resource.kind as Resource['kind']] : null;
    const key = keyOf(resource as unknown as Resource);
    if (check === null)
      unreadable.push({ key, reason: 'a kind that this version of the sidecar does not know: upgrade it' });
    else if (!check(resource)) unreadable.push({ key, reason: 'malformed: fields are missing or of the wrong type' });
    else readable.push(resource as unknown as Resource);
  }
  return { version, full, upserts: readable, removes: removes as ResourceKey[], unreadable };
}

const protocolError = (what: string): PosternError =>
  new PosternError(
    'ERR_PUSH_PROTOCOL',
    `the control plane sent ${what}; are sidecar and control plane of compatible versions?`,
  );
