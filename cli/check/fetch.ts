import { WATCHED_KINDS } from '../../control-plane/kubernetes/source/watched-kinds.ts';
import { isReason } from '../../kubernetes/api/errors.ts';
import { TYPES } from '../../kubernetes/api/resource-types.ts';
import { servedVersion } from '../../kubernetes/api/served-version.ts';
import type { KubernetesApi, ResourceType, Selection } from '../../kubernetes/api/types.ts';
import { SETTINGS } from '../../kubernetes/install/settings.ts';
import { messageOf } from '../../mesh/errors.ts';
import { asObject, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { MESH_KINDS } from './definitions.ts';
import type { Facts, Fetched, Objects, Permission } from './facts.ts';
import { meshFacts } from './settings.ts';

const NAMESPACE = 'postern-system';
const CALL_MS = 30_000;

/** What an installation writes: verbs, `<plural>.<group>`, and the namespace where it is in one. */
const PERMISSIONS: readonly (readonly [readonly string[], string, string])[] = [
  [['get', 'create', 'patch'], 'namespaces', ''],
  [['get', 'create', 'patch'], 'customresourcedefinitions.apiextensions.k8s.io', ''],
  [['get', 'create', 'patch', 'bind', 'escalate'], 'clusterroles.rbac.authorization.k8s.io', ''],
  [['get', 'create', 'patch'], 'clusterrolebindings.rbac.authorization.k8s.io', ''],
  [['get', 'create', 'patch'], 'mutatingwebhookconfigurations.admissionregistration.k8s.io', ''],
  [['get', 'create', 'patch'], 'validatingwebhookconfigurations.admissionregistration.k8s.io', ''],
  [['get', 'create', 'patch', 'bind', 'escalate'], 'roles.rbac.authorization.k8s.io', NAMESPACE],
  [['get', 'create', 'patch'], 'rolebindings.rbac.authorization.k8s.io', NAMESPACE],
  [['get', 'create', 'patch'], 'deployments.apps', NAMESPACE],
  [['get', 'create', 'patch'], 'services', NAMESPACE],
  [['get', 'create', 'patch'], 'serviceaccounts', NAMESPACE],
  [['get', 'create', 'patch'], 'configmaps', NAMESPACE],
  [['get', 'create', 'patch'], 'resourcequotas', NAMESPACE],
  [['get', 'create', 'patch'], 'networkpolicies.networking.k8s.io', NAMESPACE],
  [['get', 'create', 'patch'], 'poddisruptionbudgets.policy', NAMESPACE],
];

/** Asks the cluster for everything that checks look at; what cannot be had is said there. */
export async function fetchFacts(api: KubernetesApi, { before }: { readonly before: boolean }): Promise<Facts> {
  const version = await attempt(() => api.version(AbortSignal.timeout(CALL_MS)));
  // Without an API server each of the questions below would take its time to fail.
  const list = async (type: ResourceType, selection: Selection = {}): Promise<Objects> =>
    version.ok
      ? await attempt(async () => (await api.list(type, selection, AbortSignal.timeout(CALL_MS))).items)
      : version;
  const own = { namespace: NAMESPACE };
  const named = (name: string): Selection => ({ ...own, fieldSelector: `metadata.name=${name}` });
  const settings = await list(TYPES.ConfigMap, named(SETTINGS.configMap));
  const { secret, trustBundle } = meshFacts({ settings });
  const bundles = { fieldSelector: `metadata.name=${trustBundle.configMap}` };
  return {
    now: Date.now(),
    namespace: NAMESPACE,
    version,
    permissions: before && version.ok ? await permissionsOf(api) : [],
    definitions: await list(TYPES.CustomResourceDefinition),
    mutating: await list(TYPES.MutatingWebhookConfiguration),
    validating: await list(TYPES.ValidatingWebhookConfiguration),
    namespaces: await list(TYPES.Namespace),
    pods: await list(TYPES.Pod),
    services: await list(TYPES.Service),
    endpointSlices: await list(TYPES.EndpointSlice, own),
    deployments: await list(TYPES.Deployment, own),
    leases: await list(TYPES.Lease, own),
    secret: withoutKeys(await list(TYPES.Secret, named(secret))),
    settings,
    trustBundles: await list(TYPES.ConfigMap, bundles),
    policies: version.ok ? await attempt(() => policiesOf(api)) : version,
  };
}

async function policiesOf(api: KubernetesApi): Promise<readonly JsonObject[]> {
  const objects: JsonObject[] = [];
  for (const { type, versions } of WATCHED_KINDS.filter((kind) =>
    MESH_KINDS.some((wanted) => wanted === kind.type.kind),
  )) {
    const signal = AbortSignal.timeout(CALL_MS);
    const served = await servedVersion(api, type, versions, signal);
    // A kind that is not defined has no objects; another check says that.
    if (served !== null) objects.push(...(await api.list(served, {}, signal)).items);
  }
  return objects;
}

async function permissionsOf(api: KubernetesApi): Promise<readonly Permission[]> {
  const wanted = PERMISSIONS.flatMap(([verbs, resource, namespace]) =>
    verbs.map((verb) => ({ verb, resource, namespace })),
  );
  return await Promise.all(
    wanted.map(async (permission) => ({ ...permission, allowed: await attempt(() => isAllowed(api, permission)) })),
  );
}

async function isAllowed(
  api: KubernetesApi,
  { verb, resource, namespace }: { readonly verb: string; readonly resource: string; readonly namespace: string },
): Promise<boolean> {
  const dot = resource.indexOf('.');
  const group = dot === -1 ? '' : resource.slice(dot + 1);
  const resourceAttributes = { verb, group, resource: dot === -1 ? resource : resource.slice(0, dot), namespace };
  const review = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes },
  };
  const options = { signal: AbortSignal.timeout(CALL_MS) };
  const answer = await api.create(TYPES.SelfSubjectAccessReview, '', review, options);
  return field(asObject(field(answer, 'status')), 'allowed') === true;
}

/** Checks look at certificates: keys are let go of at once. */
function withoutKeys(secrets: Objects): Objects {
  if (!secrets.ok) return secrets;
  const value = secrets.value.map((secret) => {
    const data = Object.entries(asObject(field(secret, 'data')) ?? {}).filter(([name]) => !name.endsWith('.key'));
    return { metadata: field(secret, 'metadata') ?? {}, data: Object.fromEntries(data) };
  });
  return { ok: true, value };
}

async function attempt<T>(ask: () => Promise<T>): Promise<Fetched<T>> {
  try {
    return { ok: true, value: await ask() };
  } catch (error) {
    return { ok: false, why: messageOf(error), forbidden: isReason(error, 'Forbidden', 'Unauthorized') };
  }
}
