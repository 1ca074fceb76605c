import { INJECTION_DEFAULTS, type InjectionSettings } from '../kubernetes/injection/types.ts';
import {
  type Decoder,
  duration,
  flag,
  imageReference,
  name,
  oneOf,
  parsed,
  path,
  text,
} from '../mesh/config/decoders.ts';
import type { Section } from '../mesh/config/reader.ts';
import { type ListenAddress, parseListenAddress } from './addresses.ts';

/** Settings of a control plane that runs on Kubernetes: the section `kubernetes`. */
export interface KubernetesConfig {
  /** Absolute path; null: the pod's own service account. */
  readonly kubeconfig: string | null;
  /** Where the control plane runs and keeps its objects; null: what the pod's environment says (POD_NAMESPACE). */
  readonly namespace: string | null;
  /** Name of this replica; null: what the pod's environment says (POD_NAME), else the host's name. */
  readonly podName: string | null;
  /** Service by which sidecars and the API server reach the control plane. */
  readonly service: string;
  /** Where admission webhooks are served; null: they are not. */
  readonly webhookListen: ListenAddress | null;
  /** The CA's Secret, which the control plane makes and replicas share; or one that somebody else fills (`kubernetes.io/tls`). */
  readonly ca: { readonly kind: 'own' | 'external'; readonly secret: string };
  readonly injection: InjectionSettings;
  /** Null: as the cluster's version says. Counts before `injection.nativeSidecar`. */
  readonly nativeSidecar: boolean | null;
}

/** Name of the Secret with the mesh's own CA, where the settings name no other. */
export const OWN_SECRET = 'postern-ca';

const DEFAULTS = {
  service: 'postern-control-plane',
  webhookListen: { address: '0.0.0.0', port: 15017 },
  secret: OWN_SECRET,
} as const;

/** Null where the section is absent: one machine. */
export function readKubernetes(root: Section, base: string, trustDomain: string): KubernetesConfig | null {
  const section = root.section('kubernetes');
  if (section === null) return null;
  if (root.has('manifests')) {
    root.problem('manifests', 'manifests and kubernetes exclude each other: manifests come from the API server');
  }
  const namespace = section.optional('namespace', name, null);
  const service = section.optional('service', name, DEFAULTS.service);
  const webhooks = section.optional('webhooks', flag, true);
  const webhookListen = section.optional('webhookListen', LISTEN, DEFAULTS.webhookListen);
  return {
    kubeconfig: section.optional('kubeconfig', path(base), null),
    namespace,
    podName: section.optional('podName', name, null),
    service,
    webhookListen: webhooks ? webhookListen : null,
    ca: readCa(section),
    injection: readInjection(section, trustDomain, `https://${service}.${namespace ?? 'postern-system'}.svc:15012`),
    nativeSidecar: section.section('injection')?.optional('nativeSidecar', flag, null) ?? null,
  };
}

function readCa(kubernetes: Section): KubernetesConfig['ca'] {
  const section = kubernetes.section('ca');
  const secret = section?.optional('secret', name, null) ?? null;
  const external = section?.optional('externalSecret', name, null) ?? null;
  if (secret !== null && external !== null) {
    section?.problem(
      'externalSecret',
      "ca.secret and ca.externalSecret exclude each other: the CA is either our own or somebody else's",
    );
  }
  return external === null
    ? { kind: 'own', secret: secret ?? DEFAULTS.secret }
    : { kind: 'external', secret: external };
}

function readInjection(kubernetes: Section, trustDomain: string, controlPlaneAddress: string): InjectionSettings {
  const section = kubernetes.section('injection');
  const { trustBundle, tokenAudience, tokenSeconds, resources, logLevel } = INJECTION_DEFAULTS;
  if (section === null) kubernetes.problem(null, 'kubernetes.injection is missing: write injection: { image: … }');
  const wanted = section?.section('resources') ?? null;
  return {
    image: section?.required('image', imageReference) ?? '',
    imagePullPolicy: section?.optional('imagePullPolicy', oneOf('Always', 'IfNotPresent', 'Never'), null) ?? null,
    controlPlaneAddress: section?.optional('controlPlaneAddress', ORIGIN, null) ?? controlPlaneAddress,
    trustDomain,
    trustBundle: {
      configMap: section?.optional('trustBundleConfigMap', name, null) ?? trustBundle.configMap,
      key: trustBundle.key,
    },
    tokenAudience: section?.optional('tokenAudience', text, null) ?? tokenAudience,
    tokenSeconds: Math.ceil((section?.optional('tokenLifetime', TOKEN_LIFETIME, null) ?? tokenSeconds * 1000) / 1000),
    nativeSidecar: INJECTION_DEFAULTS.nativeSidecar,
    understandIstioLabels: section?.optional('understandIstioLabels', flag, null) ?? false,
    resources: {
      requests: { ...resources.requests, ...wanted?.record('requests', RESOURCE, QUANTITY) },
      limits: { ...resources.limits, ...wanted?.record('limits', RESOURCE, QUANTITY) },
    },
    logLevel:
      section?.optional('logLevel', oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'), null) ??
      logLevel,
  };
}

/** The API server gives tokens for ten minutes at least. */
const TOKEN_LIFETIME = duration(600_000, 86_400_000);
const RESOURCE = /^(cpu|memory|ephemeral-storage)$/;

const QUANTITY: Decoder<string> = parsed('a quantity such as "100m" or "128Mi"', '', (value) =>
  /^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi)?$/.test(value) ? value : null,
);

const LISTEN: Decoder<ListenAddress> = parsed(
  'an IP address and port, such as "0.0.0.0:15017"',
  DEFAULTS.webhookListen,
  parseListenAddress,
);

const ORIGIN: Decoder<string> = parsed(
  'an https origin such as "https://postern-control-plane.postern-system.svc:15012"',
  '',
  (value) => {
    const url = URL.parse(value);
    return url !== null && url.protocol === 'https:' && url.href === `${url.origin}/` ? url.origin : null;
  },
);
