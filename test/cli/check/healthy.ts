import type { Facts, Objects } from '../../../cli/check/facts.ts';
import { renderInstallation } from '../../../cli/install/manifests.ts';
import { createGeneration, LIFETIMES } from '../../../control-plane/ca/generation.ts';
import { identityOf } from '../../../kubernetes/install/identity.ts';
import { asObject, field } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { objectsAt } from '../../support/kubernetes/objects.ts';

/** An installation without fault and one application in the mesh, as checks see it. */

export const NOW = Date.parse('2026-06-01T12:00:00Z');
export const SYSTEM = 'postern-system';
const IMAGE = 'postern:0.1.0';

const INSTALLED = renderInstallation({ overlay: 'ha', components: [], settings: [] });
const GENERATION = createGeneration(1, 'cluster.local', NOW, LIFETIMES);
export const ROOTS = GENERATION.root.pem;
const INTERMEDIATE = GENERATION.intermediate.pem;

export const objects = (...value: readonly JsonObject[]): Objects => ({ ok: true, value });

export const base64 = (text: string): string => Buffer.from(text).toString('base64');

function installed(kind: string): readonly JsonObject[] {
  return INSTALLED.filter((object) => identityOf(object).kind === kind);
}

export function namespace(name: string, labels: JsonObject = {}): JsonObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

/** A pod of the shop; with a sidecar unless `image` is null. */
export function pod(
  name: string,
  options: {
    readonly image?: string | null;
    readonly metadata?: JsonObject;
    readonly ready?: boolean;
    readonly status?: JsonObject;
  } = {},
): JsonObject {
  const { image = IMAGE, ready = true } = options;
  const status = JSON.stringify({ version: '0.1.0', image });
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'shop',
      labels: { app: 'orders' },
      ...(image === null ? {} : { annotations: { 'postern.dev/status': status } }),
      ...options.metadata,
    },
    spec: { containers: [{ name: 'app', image: 'app' }] },
    status: {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
      initContainerStatuses: [{ name: 'postern-proxy', ready, state: { running: {} } }],
      ...options.status,
    },
  };
}

export function policy(kind: string, name: string, spec: JsonObject, where = 'shop'): JsonObject {
  return { apiVersion: 'security.istio.io/v1', kind, metadata: { name, namespace: where }, spec };
}

export function trustBundle(where: string, roots: string): JsonObject {
  const metadata = { name: 'postern-ca-roots', namespace: where };
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { 'root-cert.pem': roots } };
}

/** A configuration as installed, with the caBundle that the leader writes. */
export function webhooks(kind: 'Mutating' | 'Validating', change: JsonObject = {}, caBundle = ROOTS): JsonObject {
  const [configuration = {}] = installed(`${kind}WebhookConfiguration`);
  const changed = objectsAt(configuration, 'webhooks').map((webhook) => ({
    ...webhook,
    clientConfig: { ...asObject(field(webhook, 'clientConfig')), caBundle: base64(caBundle) },
    ...change,
  }));
  return { ...configuration, webhooks: changed };
}

export function service(name: string, where: string, ports: readonly JsonObject[]): JsonObject {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: where }, spec: { ports } };
}

export function endpoints(ready: boolean): JsonObject {
  const labels = { 'kubernetes.io/service-name': 'postern-control-plane' };
  const metadata = { name: 'postern-control-plane-x', namespace: SYSTEM, labels };
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata,
    endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready } }],
  };
}

export function lease(holderIdentity: string, renewTime: string): JsonObject {
  const spec = { holderIdentity, renewTime, leaseDurationSeconds: 15 };
  return { metadata: { name: 'postern-control-plane', namespace: SYSTEM }, spec };
}

export function deployment(status: JsonObject): JsonObject {
  const [object = {}] = installed('Deployment');
  return { ...object, status };
}

export function settings(text: string): JsonObject {
  const metadata = { name: 'postern-control-plane', namespace: SYSTEM };
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { 'control-plane.yaml': text } };
}

export function authority(
  data: JsonObject = { 'root-1.pem': base64(ROOTS), 'intermediate-1-1.pem': base64(INTERMEDIATE) },
) {
  return { metadata: { name: 'postern-ca', namespace: SYSTEM }, data };
}

export function definitions(
  change: (definition: JsonObject) => JsonObject | null = (one) => one,
): readonly JsonObject[] {
  return installed('CustomResourceDefinition').flatMap((definition) => {
    const changed = change({ ...definition, status: { conditions: [{ type: 'Established', status: 'True' }] } });
    return changed === null ? [] : [changed];
  });
}

const HEALTHY: Facts = {
  now: NOW,
  namespace: SYSTEM,
  version: { ok: true, value: { major: 1, minor: 32, gitVersion: 'v1.32.0' } },
  permissions: [{ verb: 'create', resource: 'namespaces', namespace: '', allowed: { ok: true, value: true } }],
  definitions: objects(...definitions()),
  mutating: objects(webhooks('Mutating')),
  validating: objects(webhooks('Validating')),
  namespaces: objects(
    namespace('default'),
    namespace('kube-system'),
    namespace(SYSTEM, { 'postern.dev/inject': 'disabled' }),
    namespace('shop', { 'postern.dev/inject': 'enabled' }),
  ),
  pods: objects(pod('orders-1')),
  services: objects(
    service('postern-control-plane', SYSTEM, [{ name: 'https-sidecars', port: 15012 }]),
    service('orders', 'shop', [{ name: 'http-api', port: 80 }]),
  ),
  endpointSlices: objects(endpoints(true)),
  deployments: objects(deployment({ updatedReplicas: 3, availableReplicas: 3 })),
  leases: objects(lease('cp-1_abcd', '2026-06-01T11:59:58.000000Z')),
  secret: objects(authority()),
  settings: objects(...installed('ConfigMap')),
  trustBundles: objects(trustBundle(SYSTEM, ROOTS), trustBundle('shop', ROOTS)),
  policies: objects(policy('AuthorizationPolicy', 'orders', { selector: { matchLabels: { app: 'orders' } } })),
};

export const healthy = (change: Partial<Facts> = {}): Facts => ({ ...HEALTHY, ...change });
