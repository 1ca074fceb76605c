import type {
  ConnectionAttributes,
  JsonObject,
  JsonValue,
  PolicyMesh,
  PolicyWorkload,
  RequestAttributes,
} from '../../policy/types.ts';

/** Objects and facts that policy tests vary. */
export const MESH: PolicyMesh = {
  trustDomain: 'cluster.local',
  trustDomainAliases: [],
  rootNamespace: 'istio-system',
  defaultAction: 'ALLOW',
  pathNormalization: 'BASE',
  extensionProviders: [],
};

export const ORDERS: PolicyWorkload = { namespace: 'shop', labels: { app: 'orders', version: 'v1' } };

export const FRONTEND = 'cluster.local/ns/shop/sa/frontend';

export const CONNECTION: ConnectionAttributes = {
  sourcePrincipal: FRONTEND,
  sourceIp: '10.1.2.3',
  destinationIp: '10.9.9.9',
  destinationPort: 8080,
  sni: '',
};

/** A request as policies see it; header names in lower case. */
export function requestOf({
  headers = {},
  ...rest
}: Partial<Omit<RequestAttributes, 'header'>> & {
  readonly headers?: { readonly [name: string]: readonly string[] };
}): RequestAttributes {
  const header = (name: string): readonly string[] => headers[name] ?? [];
  return { method: 'GET', path: '/', query: '', host: 'orders.shop', ...rest, header };
}

interface PolicyParts {
  readonly name?: string;
  readonly namespace?: string;
  readonly annotations?: JsonObject;
}

export function policy(
  spec: JsonObject,
  { name = 'p', namespace = 'shop', annotations = {} }: PolicyParts = {},
): JsonObject {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace, annotations },
    spec,
  };
}

/** An ALLOW policy of one rule with one source. */
export function allowSource(source: JsonObject, parts: PolicyParts = {}): JsonObject {
  return policy({ action: 'ALLOW', rules: [{ from: [{ source }] }] }, parts);
}

export function denySource(source: JsonObject, parts: PolicyParts = {}): JsonObject {
  return policy({ action: 'DENY', rules: [{ from: [{ source }] }] }, parts);
}

export function allowWhen(...when: readonly JsonObject[]): JsonObject {
  return policy({ action: 'ALLOW', rules: [{ when }] });
}

export function peerAuthentication(
  spec: JsonObject,
  parts: { readonly name?: string; readonly namespace?: string; readonly created?: string } = {},
): JsonObject {
  const { name = 'default', namespace = 'shop', created } = parts;
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name, namespace, ...(created === undefined ? {} : { creationTimestamp: created }) },
    spec,
  };
}

export function object(
  kind: string,
  apiVersion: string,
  spec: JsonValue,
  metadata: JsonObject = { name: 'x' },
): JsonObject {
  return { apiVersion, kind, metadata, spec };
}
