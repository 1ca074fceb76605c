import { quoted } from './quoted.ts';
import type { Manifest } from './types.ts';

/** The kinds that a manifest may be of, and the API versions that each is served as. */
export const KINDS = {
  AuthorizationPolicy: ['security.istio.io/v1', 'security.istio.io/v1beta1'],
  PeerAuthentication: ['security.istio.io/v1', 'security.istio.io/v1beta1'],
  RequestAuthentication: ['security.istio.io/v1', 'security.istio.io/v1beta1'],
  WorkloadEntry: ['networking.istio.io/v1', 'networking.istio.io/v1beta1', 'networking.istio.io/v1alpha3'],
  ServiceEntry: ['networking.istio.io/v1', 'networking.istio.io/v1beta1', 'networking.istio.io/v1alpha3'],
  Service: ['v1'],
  MeshConfig: ['postern.dev/v1'],
  Revocation: ['postern.dev/v1'],
} as const;

export type ManifestKind = keyof typeof KINDS;

export function isManifestKind(kind: string): kind is ManifestKind {
  return Object.hasOwn(KINDS, kind);
}

/** What is wrong with the kind of an object; null where it is one that Postern knows. */
export function kindProblem(apiVersion: string, kind: string): string | null {
  if (apiVersion === '' || kind === '') return 'a manifest needs an apiVersion and a kind, both strings';
  if (!isManifestKind(kind)) {
    const known = Object.entries(KINDS).map(([name, versions]) => `${name} (${versions.join(', ')})`);
    return `unknown kind ${quoted(kind)} of ${quoted(apiVersion)}; known are ${known.join(', ')}`;
  }
  const versions: readonly string[] = KINDS[kind];
  if (versions.includes(apiVersion)) return null;
  return `unknown apiVersion ${quoted(apiVersion)} of ${kind}; known are ${versions.join(', ')}`;
}

/** `AuthorizationPolicy shop/deny-admin`. */
export function titleOf(manifest: Pick<Manifest, 'kind' | 'namespace' | 'name'>): string {
  return `${manifest.kind} ${manifest.namespace}/${manifest.name}`;
}
