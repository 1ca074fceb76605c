import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { objectsIn } from './pod.ts';
import type { PodSettings } from './pod-settings.ts';
import { INJECTED, type InjectionSettings } from './types.ts';

/** Environment variables of the sidecar that the downward API fills, and from which field of the pod. */
export const REFERENCES = [
  ['POD_NAME', 'metadata.name'],
  ['POD_NAMESPACE', 'metadata.namespace'],
  ['POD_IPS', 'status.podIPs'],
  ['SERVICE_ACCOUNT', 'spec.serviceAccountName'],
] as const;

/** Stands for `$(NAME)` in settings, which the kubelet replaces when it starts the container: names and addresses, never in need of escaping. */
class Reference {
  readonly name: string;

  constructor(name: (typeof REFERENCES)[number][0]) {
    this.name = name;
  }
}

type Template = JsonValue | Reference | readonly Template[] | { readonly [key: string]: Template };

/** Every TCP listener takes both families: a socket of `::` accepts IPv4 as well. */
const EVERY = '[::]';

/**
 * The text of `POSTERN_CONFIG`: the sidecar's settings as JSON, with the same keys as proxy.yaml.
 *
 * The kubelet expands `$(NAME)` and reads `$$` as `$` in it (wherever they stand, k8s.io/kubernetes third_party/forked/golang/expansion), so every
 * dollar of a value is doubled: nothing but our own references is ever expanded.
 */
export function sidecarSettings(
  pod: PodSettings,
  settings: InjectionSettings,
  labels: { readonly [key: string]: string },
  probes: readonly JsonObject[],
): string {
  const { configMap: _, key } = settings.trustBundle;
  return expandable({
    workload: {
      name: new Reference('POD_NAME'),
      namespace: new Reference('POD_NAMESPACE'),
      serviceAccount: new Reference('SERVICE_ACCOUNT'),
      addresses: new Reference('POD_IPS'),
      labels,
    },
    controlPlane: {
      address: settings.controlPlaneAddress,
      caFile: `${INJECTED.trustPath}/${key}`,
      serviceAccountTokenFile: INJECTED.tokenPath,
    },
    trustDomain: settings.trustDomain,
    inbound: { listen: `${EVERY}:15006`, tunnel: `${EVERY}:15008` },
    outbound: { listen: `${EVERY}:15001` },
    metrics: { listen: `${EVERY}:15020` },
    health: { listen: `${EVERY}:15021` },
    // An ordinary container is told to stop together with the application, which may need its connections until it has ended.
    ...(pod.nativeSidecar ? {} : { drain: { keepOutbound: true } }),
    ...pod.sidecar,
    ...(probes.length === 0 ? {} : { probes }),
  });
}

function expandable(value: Template): string {
  if (value instanceof Reference) return `"$(${value.name})"`;
  if (Array.isArray(value)) return `[${value.map((item: Template) => expandable(item)).join(',')}]`;
  if (value === null || typeof value !== 'object') return literal(value);
  return `{${Object.entries(value)
    .map(([key, item]) => `${literal(key)}:${expandable(item)}`)
    .join(',')}}`;
}

function literal(value: null | boolean | number | string): string {
  return JSON.stringify(value).replaceAll('$', () => '$$');
}

/** The probes in the settings of a sidecar that was injected earlier; none where they cannot be read. */
export function probesOfSidecar(sidecar: JsonObject): readonly JsonObject[] {
  const variables = objectsIn(field(sidecar, 'env'));
  const entry = variables.find((variable) => field(variable, 'name') === INJECTED.settingsVariable) ?? null;
  const text = asString(field(entry, 'value'));
  try {
    const settings: JsonValue = JSON.parse((text ?? '').replaceAll('$$', () => '$'));
    return objectsIn(field(asObject(settings), 'probes'));
  } catch {
    return [];
  }
}
