import { stringMap } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, metaOf, objectsAt, textAt, withDefaults, withFields } from './objects.ts';

/**
 * Values that the server fills in, as far as our programs or kubectl would miss them. Far from all of them: a Deployment comes back nearly as it
 * was sent.
 */
export function withServerDefaults(storage: string, object: JsonObject): JsonObject {
  return DEFAULTS[storage]?.(object) ?? object;
}

const DEFAULTS: { readonly [storage: string]: (object: JsonObject) => JsonObject } = {
  '/namespaces': namespace,
  '/pods': pod,
  '/services': service,
  '/secrets': secret,
  'apps/deployments': deployment,
  'rbac.authorization.k8s.io/clusterrolebindings': binding,
  'rbac.authorization.k8s.io/rolebindings': binding,
  'admissionregistration.k8s.io/mutatingwebhookconfigurations': webhooks,
  'admissionregistration.k8s.io/validatingwebhookconfigurations': webhooks,
};

const section = (object: JsonObject, name: string): JsonObject => (at(object, name) as JsonObject | undefined) ?? {};

function namespace(object: JsonObject): JsonObject {
  const meta = metaOf(object);
  const labels = { ...section(meta, 'labels'), 'kubernetes.io/metadata.name': at(meta, 'name') ?? '' };
  return {
    ...object,
    metadata: { ...meta, labels },
    spec: withDefaults(section(object, 'spec'), { finalizers: ['kubernetes'] }),
    status: withDefaults(section(object, 'status'), { phase: 'Active' }),
  };
}

function podSpec(spec: JsonObject): JsonObject {
  return withDefaults(spec, {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    schedulerName: 'default-scheduler',
  });
}

function pod(object: JsonObject): JsonObject {
  const spec = podSpec(
    withDefaults(section(object, 'spec'), { serviceAccountName: 'default', enableServiceLinks: true }),
  );
  return {
    ...object,
    spec: withDefaults(spec, { serviceAccount: spec.serviceAccountName ?? 'default' }),
    status: withDefaults(section(object, 'status'), { phase: 'Pending', qosClass: 'BestEffort' }),
  };
}

function deployment(object: JsonObject): JsonObject {
  const template = section(section(object, 'spec'), 'template');
  const spec = withDefaults(section(object, 'spec'), {
    replicas: 1,
    revisionHistoryLimit: 10,
    progressDeadlineSeconds: 600,
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '25%', maxUnavailable: '25%' } },
  });
  return { ...object, spec: { ...spec, template: { ...template, spec: podSpec(section(template, 'spec')) } } };
}

function service(object: JsonObject): JsonObject {
  const spec = withDefaults(section(object, 'spec'), { type: 'ClusterIP', sessionAffinity: 'None' });
  if (textAt(spec, 'type') === 'ExternalName') return { ...object, spec };
  const ports = objectsAt(spec, 'ports').map((port) =>
    withDefaults(withDefaults(port, { protocol: 'TCP' }), { targetPort: port.port ?? 0 }),
  );
  const more = withDefaults(spec, { internalTrafficPolicy: 'Cluster' });
  return { ...object, spec: at(spec, 'ports') === undefined ? more : { ...more, ports } };
}

/** `stringData` is for writing only. */
function secret(object: JsonObject): JsonObject {
  const typed = withDefaults(object, { type: 'Opaque' });
  const texts = [...stringMap(at(object, 'stringData'))].map(([key, text]): [string, JsonValue] => [
    key,
    Buffer.from(text).toString('base64'),
  ]);
  if (texts.length === 0) return withFields(typed, { stringData: undefined });
  return withFields(typed, {
    stringData: undefined,
    data: { ...section(object, 'data'), ...Object.fromEntries(texts) },
  });
}

function binding(object: JsonObject): JsonObject {
  const subjects = objectsAt(object, 'subjects').map((subject) =>
    textAt(subject, 'kind') === 'ServiceAccount'
      ? subject
      : withDefaults(subject, { apiGroup: 'rbac.authorization.k8s.io' }),
  );
  return subjects.length === 0 ? object : { ...object, subjects };
}

function webhooks(object: JsonObject): JsonObject {
  const list = objectsAt(object, 'webhooks').map((webhook) => {
    const rules = objectsAt(webhook, 'rules').map((rule) => withDefaults(rule, { scope: '*' }));
    const service = at(webhook, 'clientConfig', 'service');
    const client = section(webhook, 'clientConfig');
    return {
      ...withDefaults(webhook, {
        failurePolicy: 'Fail',
        matchPolicy: 'Equivalent',
        timeoutSeconds: 10,
        namespaceSelector: {},
        objectSelector: {},
      }),
      rules,
      clientConfig:
        service === undefined
          ? client
          : { ...client, service: withDefaults(section(client, 'service'), { port: 443 }) },
    };
  });
  return list.length === 0 ? object : { ...object, webhooks: list };
}
