import { parseControlPlaneConfig } from '../../control-plane/config.ts';
import { INJECTION_DEFAULTS } from '../../kubernetes/injection/types.ts';
import { SETTINGS } from '../../kubernetes/install/settings.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import type { Facts } from './facts.ts';

/** What checks need of the control plane's settings. */
export interface MeshFacts {
  readonly rootNamespace: string;
  readonly understandIstioLabels: boolean;
  /** Image that new sidecars get; null where that is not known. */
  readonly image: string | null;
  readonly secret: string;
  readonly externalAuthority: boolean;
  readonly trustBundle: { readonly configMap: string; readonly key: string };
}

const UNKNOWN: MeshFacts = {
  rootNamespace: 'postern-system',
  understandIstioLabels: false,
  image: null,
  secret: 'postern-ca',
  externalAuthority: false,
  trustBundle: INJECTION_DEFAULTS.trustBundle,
};

/** As the ConfigMap says; as the manifests have it where it cannot be read: `checkSettings` reports that. */
export function meshFacts(facts: Pick<Facts, 'settings'>): MeshFacts {
  const text = settingsText(facts);
  if (text === null) return UNKNOWN;
  try {
    const { mesh, kubernetes } = parseControlPlaneConfig(text, SETTINGS.key);
    if (kubernetes === null) return UNKNOWN;
    return {
      rootNamespace: mesh.rootNamespace,
      understandIstioLabels: kubernetes.injection.understandIstioLabels,
      image: kubernetes.injection.image,
      secret: kubernetes.ca.secret,
      externalAuthority: kubernetes.ca.kind === 'external',
      trustBundle: kubernetes.injection.trustBundle,
    };
  } catch {
    return UNKNOWN;
  }
}

/** As the MeshConfig says, which counts before the settings. */
export function rootNamespaceOf(facts: Facts): string {
  const policies = facts.policies.ok ? facts.policies.value : [];
  const mesh = policies.find((object) => field(object, 'kind') === 'MeshConfig') ?? null;
  return asString(field(asObject(field(mesh, 'spec')), 'rootNamespace')) ?? meshFacts(facts).rootNamespace;
}

export function settingsText({ settings }: Pick<Facts, 'settings'>): string | null {
  const [configMap] = settings.ok ? settings.value : [];
  return asString(field(asObject(field(configMap ?? null, 'data')), SETTINGS.key));
}
