import { INJECTED } from '../../../kubernetes/injection/types.ts';
import { asObject, asString, field, isAbsent, isList } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';

/**
 * What is kept of the API's objects. Everything else (managed fields, status, what changes with every heartbeat) would cost memory, and would make an
 * object count as changed when nothing that concerns the mesh has.
 */

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';
const POD_ANNOTATIONS = [INJECTED.statusAnnotation, 'sidecar.istio.io/status'];
const SERVICE_LABEL = 'kubernetes.io/service-name';

/** Names, labels, annotations and spec, as their author wrote them. */
export function slimObject(object: JsonObject): JsonObject {
  const metadata = asObject(field(object, 'metadata'));
  const annotations = asObject(field(metadata, 'annotations'));
  const kept = Object.entries(annotations ?? {}).filter(([name]) => name !== LAST_APPLIED);
  // Whatever else stands at the top is for validation to see, `status` is not.
  const { metadata: _metadata, status: _status, ...rest } = object;
  return {
    ...rest,
    metadata: {
      ...pick(metadata, ['name', 'namespace', 'uid', 'labels', 'creationTimestamp']),
      ...(kept.length === 0 ? {} : { annotations: Object.fromEntries(kept) }),
    },
  };
}

/** Of `v1` Pod. `status.podIPs` as Kubernetes has them; `status.ready` and `status.ended` are ours. */
export function slimPod(object: JsonObject): JsonObject {
  const metadata = asObject(field(object, 'metadata'));
  const spec = asObject(field(object, 'spec'));
  const status = asObject(field(object, 'status'));
  const annotations = pick(asObject(field(metadata, 'annotations')), POD_ANNOTATIONS);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...pick(metadata, ['name', 'namespace', 'uid', 'labels', 'deletionTimestamp']),
      ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
    },
    spec: {
      ...pick(spec, ['serviceAccountName', 'hostNetwork', 'restartPolicy']),
      containers: objects(field(spec, 'containers')).map(slimContainer),
      // The others have ended before the application begins: nothing reaches their ports.
      initContainers: objects(field(spec, 'initContainers')).filter(isNativeSidecar).map(slimContainer),
    },
    status: {
      ...pick(status, ['phase', 'podIPs']),
      ready: isReady(status),
      ended: hasEnded(metadata, spec, status),
    },
  };
}

function slimContainer(container: JsonObject): JsonObject {
  const ports = objects(field(container, 'ports')).map((port) => pick(port, ['name', 'containerPort', 'protocol']));
  return { ...pick(container, ['name', 'restartPolicy']), ...(ports.length === 0 ? {} : { ports }) };
}

function isNativeSidecar(container: JsonObject): boolean {
  return field(container, 'restartPolicy') === 'Always';
}

function isReady(status: JsonObject | null): boolean {
  return objects(field(status, 'conditions')).some(
    (condition) => field(condition, 'type') === 'Ready' && field(condition, 'status') === 'True',
  );
}

/**
 * Whether the application is over for good: the pod has finished, or each of its containers but the sidecar has terminated and is not to be started
 * again (by the pod's restartPolicy; a pod that is being deleted starts nothing).
 */
function hasEnded(metadata: JsonObject | null, spec: JsonObject | null, status: JsonObject | null): boolean {
  const phase = field(status, 'phase');
  if (phase === 'Succeeded' || phase === 'Failed') return true;
  const isDeleted = !isAbsent(field(metadata, 'deletionTimestamp'));
  const policy = isDeleted ? 'Never' : (asString(field(spec, 'restartPolicy')) ?? 'Always');
  if (policy !== 'Never' && policy !== 'OnFailure') return false;
  const statuses = new Map(
    objects(field(status, 'containerStatuses')).map((one) => [asString(field(one, 'name')) ?? '', one]),
  );
  const names = objects(field(spec, 'containers')).map((container) => asString(field(container, 'name')) ?? '');
  const application = names.filter((name) => name !== INJECTED.sidecar);
  return (
    application.length > 0 &&
    application.every((name) => {
      const state = asObject(field(statuses.get(name) ?? null, 'state'));
      const terminated = asObject(field(state, 'terminated'));
      return terminated !== null && (policy === 'Never' || field(terminated, 'exitCode') === 0);
    })
  );
}

/** Of `discovery.k8s.io/v1` EndpointSlice; null: it belongs to no service. */
export function slimEndpointSlice(object: JsonObject): JsonObject | null {
  const metadata = asObject(field(object, 'metadata'));
  const labels = pick(asObject(field(metadata, 'labels')), [SERVICE_LABEL]);
  if (!Object.hasOwn(labels, SERVICE_LABEL)) return null;
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { ...pick(metadata, ['name', 'namespace']), labels },
    ...pick(object, ['addressType']),
    ports: objects(field(object, 'ports')).map((port) => pick(port, ['name', 'port', 'protocol', 'appProtocol'])),
    endpoints: objects(field(object, 'endpoints')).map((endpoint) => ({
      ...pick(endpoint, ['addresses', 'conditions']),
      targetRef: pick(asObject(field(endpoint, 'targetRef')), ['kind', 'namespace', 'name', 'uid']),
    })),
  };
}

/** The named fields that are there. */
function pick(object: JsonObject | null, names: readonly string[]): JsonObject {
  const kept: { [name: string]: JsonValue } = {};
  for (const name of names) {
    const value = field(object, name);
    if (!isAbsent(value)) kept[name] = value;
  }
  return kept;
}

function objects(value: JsonValue | undefined): readonly JsonObject[] {
  return isList(value) ? value.map(asObject).filter((item) => item !== null) : [];
}
