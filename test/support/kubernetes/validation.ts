import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { definitionCauses } from './custom-types.ts';
import { at, metaOf, objectsAt, textAt, textsAt } from './objects.ts';
import { badRequest, type Cause, required, unsupported, wrong } from './status.ts';
import type { ServedType } from './type-registry.ts';
import { deploymentCauses, endpointSliceCauses, podCauses, serviceCauses } from './workload-validation.ts';

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
/** MicroTime: the server's layout asks for exactly six digits after the point. */
const MICRO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const MAX_DATA = 1024 * 1024;

/** Names of RBAC objects may hold nearly anything. */
const FREE_NAMES = 'rbac.authorization.k8s.io';

/** What is wrong about an object of any kind, before what its own kind asks. */
export function metadataCauses(type: ServedType, object: JsonObject): readonly Cause[] {
  const causes: Cause[] = [];
  const name = textAt(object, 'metadata', 'name');
  if (type.group === FREE_NAMES ? /[/%]/.test(name) : name.length > 253 || !SUBDOMAIN.test(name)) {
    causes.push(
      wrong(
        'metadata.name',
        name,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
      ),
    );
  }
  for (const [key, value] of Object.entries(asObject(at(object, 'metadata', 'labels') ?? null) ?? {})) {
    if (!LABEL_KEY.test(key))
      causes.push(wrong('metadata.labels', key, "name part must consist of alphanumeric characters, '-', '_' or '.'"));
    if (typeof value !== 'string' || value.length > 63 || !LABEL_VALUE.test(value)) {
      causes.push(
        wrong(
          'metadata.labels',
          value,
          "a valid label must be an empty string or consist of at most 63 alphanumeric characters, '-', '_' or '.'",
        ),
      );
    }
  }
  for (const owner of objectsAt(object, 'metadata', 'ownerReferences')) {
    for (const field of ['apiVersion', 'kind', 'name', 'uid']) {
      if (textAt(owner, field) === '') causes.push(wrong(`metadata.ownerReferences.${field}`, '', 'must not be empty'));
    }
  }
  return causes;
}

/** What the kind asks, as far as our programs could get it wrong. @throws ApiFailure 400 where a value cannot even be decoded. */
export function kindCauses(storage: string, object: JsonObject, before: JsonObject | null): readonly Cause[] {
  return KINDS[storage]?.(object, before) ?? [];
}

type Check = (object: JsonObject, before: JsonObject | null) => readonly Cause[];

const KINDS: { readonly [storage: string]: Check } = {
  '/secrets': secret,
  '/configmaps': configMap,
  '/pods': podCauses,
  '/services': serviceCauses,
  'apps/deployments': deploymentCauses,
  'apiextensions.k8s.io/customresourcedefinitions': definitionCauses,
  'coordination.k8s.io/leases': lease,
  'events.k8s.io/events': event,
  'discovery.k8s.io/endpointslices': endpointSliceCauses,
  'admissionregistration.k8s.io/mutatingwebhookconfigurations': webhooks,
  'admissionregistration.k8s.io/validatingwebhookconfigurations': webhooks,
  'rbac.authorization.k8s.io/clusterrolebindings': immutableRole,
  'rbac.authorization.k8s.io/rolebindings': immutableRole,
};

function decodeTime(kind: string, object: JsonObject, micro: boolean, ...path: readonly string[]): void {
  const value = at(object, ...path);
  if (value === undefined) return;
  if (typeof value === 'string' && (micro ? MICRO_TIME : TIME).test(value)) return;
  const layout = micro ? '2006-01-02T15:04:05.000000Z07:00' : '2006-01-02T15:04:05Z07:00';
  throw badRequest(
    `${kind} in version "v1" cannot be handled as a ${kind}: parsing time ${JSON.stringify(value)} as "${layout}": cannot parse`,
  );
}

function lease(object: JsonObject): readonly Cause[] {
  for (const name of ['acquireTime', 'renewTime']) decodeTime('Lease', object, true, 'spec', name);
  const causes: Cause[] = [];
  for (const name of ['leaseDurationSeconds', 'leaseTransitions']) {
    const value = at(object, 'spec', name);
    if (value !== undefined && !Number.isInteger(value))
      throw badRequest(
        `Lease in version "v1" cannot be handled as a Lease: json: cannot unmarshal into Go struct field LeaseSpec.spec.${name} of type int32`,
      );
  }
  const seconds = at(object, 'spec', 'leaseDurationSeconds');
  if (typeof seconds === 'number' && seconds <= 0)
    causes.push(wrong('spec.leaseDurationSeconds', seconds, 'must be greater than 0'));
  const transitions = at(object, 'spec', 'leaseTransitions');
  if (typeof transitions === 'number' && transitions < 0)
    causes.push(wrong('spec.leaseTransitions', transitions, 'must be greater than or equal to 0'));
  return causes;
}

function event(object: JsonObject, before: JsonObject | null): readonly Cause[] {
  decodeTime('Event', object, true, 'eventTime');
  decodeTime('Event', object, true, 'series', 'lastObservedTime');
  if (before !== null || object.apiVersion === 'v1') return [];
  const causes: Cause[] = [];
  if (at(object, 'eventTime') === undefined) causes.push(required('eventTime'));
  for (const name of ['reportingController', 'reportingInstance', 'action', 'reason']) {
    const text = textAt(object, name);
    if (text === '') causes.push(required(name));
    if (text.length > 128) causes.push(wrong(name, '', 'can have at most 128 characters'));
  }
  if (textAt(object, 'note').length > 1024) causes.push(wrong('message', '', 'can have at most 1024 characters'));
  if (!['Normal', 'Warning'].includes(textAt(object, 'type')))
    causes.push(wrong('type', textAt(object, 'type'), 'has invalid value'));
  const home = textAt(object, 'regarding', 'namespace');
  const namespace = textAt(object, 'metadata', 'namespace');
  if (home === '' ? namespace !== 'default' : namespace !== home) {
    causes.push(wrong('involvedObject.namespace', home, 'does not match event.namespace'));
  }
  return causes;
}

function secret(object: JsonObject, before: JsonObject | null): readonly Cause[] {
  const data = Object.entries(asObject(at(object, 'data') ?? null) ?? {});
  for (const [key, value] of data) {
    if (typeof value !== 'string' || !BASE64.test(value)) {
      throw badRequest(
        `Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0 in data.${key}`,
      );
    }
  }
  const causes: Cause[] = keyCauses(data);
  const type = textAt(object, 'type');
  if (type === 'kubernetes.io/tls') {
    for (const key of ['tls.crt', 'tls.key'])
      if (at(object, 'data', key) === undefined) causes.push(required(`data[${key}]`));
  }
  if (before !== null && textAt(before, 'type') !== type) causes.push(wrong('type', type, 'field is immutable'));
  return [...causes, ...frozenCauses(object, before)];
}

function configMap(object: JsonObject, before: JsonObject | null): readonly Cause[] {
  const data = Object.entries(asObject(at(object, 'data') ?? null) ?? {});
  for (const [key, value] of data) {
    if (typeof value !== 'string')
      throw badRequest(
        `ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal data.${key} into Go struct field ConfigMap.data of type string`,
      );
  }
  return [...keyCauses(data), ...frozenCauses(object, before)];
}

function keyCauses(data: readonly (readonly [string, JsonValue])[]): Cause[] {
  const causes = data.flatMap(([key]) =>
    /^[-._a-zA-Z0-9]{1,253}$/.test(key)
      ? []
      : [wrong('data', key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'")],
  );
  const size = data.reduce((sum, [, value]) => sum + String(value).length, 0);
  if (size > MAX_DATA)
    causes.push({
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${MAX_DATA} bytes`,
      field: 'data',
    });
  return causes;
}

function frozenCauses(object: JsonObject, before: JsonObject | null): readonly Cause[] {
  if (before === null || at(before, 'immutable') !== true) return [];
  const same = JSON.stringify(at(before, 'data')) === JSON.stringify(at(object, 'data'));
  return same
    ? []
    : [
        {
          reason: 'FieldValueForbidden',
          message: 'Forbidden: field is immutable when `immutable` is set',
          field: 'data',
        },
      ];
}

function webhooks(object: JsonObject): readonly Cause[] {
  const names = new Set<string>();
  return objectsAt(object, 'webhooks').flatMap((webhook, index) => {
    const field = `webhooks[${index}]`;
    const causes: Cause[] = [];
    const name = textAt(webhook, 'name');
    if (!SUBDOMAIN.test(name) || name.split('.').length < 3)
      causes.push(wrong(`${field}.name`, name, 'should be a domain with at least three segments separated by dots'));
    if (names.has(name))
      causes.push({
        reason: 'FieldValueDuplicate',
        message: `Duplicate value: ${JSON.stringify(name)}`,
        field: `${field}.name`,
      });
    names.add(name);
    if (!textsAt(webhook, 'admissionReviewVersions').includes('v1'))
      causes.push(required(`${field}.admissionReviewVersions`, 'must specify one of v1, v1beta1'));
    const effects = textAt(webhook, 'sideEffects');
    if (!['None', 'NoneOnDryRun'].includes(effects))
      causes.push(unsupported(`${field}.sideEffects`, effects, ['None', 'NoneOnDryRun']));
    const seconds = Number(at(webhook, 'timeoutSeconds') ?? 10);
    if (seconds < 1 || seconds > 30)
      causes.push(wrong(`${field}.timeoutSeconds`, seconds, 'the timeout value must be between 1 and 30 seconds'));
    const bundle = textAt(webhook, 'clientConfig', 'caBundle');
    if (!BASE64.test(bundle)) throw badRequest('illegal base64 data in webhooks.clientConfig.caBundle');
    if (bundle !== '' && !Buffer.from(bundle, 'base64').toString().includes('-----BEGIN CERTIFICATE-----')) {
      causes.push(
        wrong(
          `${field}.clientConfig.caBundle`,
          '',
          'unable to load root certificates: unable to parse bytes as PEM block',
        ),
      );
    }
    const client = metaOf({ metadata: at(webhook, 'clientConfig') ?? {} });
    if ((client.url === undefined) === (client.service === undefined))
      causes.push(required(`${field}.clientConfig`, 'exactly one of url or service is required'));
    return causes;
  });
}

function immutableRole(object: JsonObject, before: JsonObject | null): readonly Cause[] {
  const [now, then] = [object, before ?? object].map((one) =>
    JSON.stringify([at(one, 'roleRef', 'kind'), at(one, 'roleRef', 'name')]),
  );
  return now === then ? [] : [wrong('roleRef', at(object, 'roleRef') ?? null, 'cannot change roleRef')];
}
