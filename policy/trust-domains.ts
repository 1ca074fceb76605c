import type { PolicyMesh } from './types.ts';

/** In a policy, the local trust domain whatever its name: manifests can be written before the mesh is named. */
const LOCAL_POINTER = 'cluster.local';
/** `<trust domain>/ns/<namespace>/sa/<service account>`. */
const PRINCIPAL_PARTS = 5;

/** The mesh's own trust domain and its aliases: a peer of any of them is the same peer to a policy. */
export function trustDomainsOf(mesh: Pick<PolicyMesh, 'trustDomain' | 'trustDomainAliases'>): readonly string[] {
  return [...new Set([mesh.trustDomain, ...mesh.trustDomainAliases])];
}

/** A principal of a policy under every name of the local trust domain; as it is where it speaks of another one. */
export function expandPrincipal(principal: string, trustDomains: readonly string[]): readonly string[] {
  const parts = principal.split('/');
  const [written = ''] = parts;
  if (parts.length !== PRINCIPAL_PARTS || written === '*') return [principal];
  const isLocal = written === LOCAL_POINTER || trustDomains.some((trustDomain) => covers(written, trustDomain));
  if (!isLocal) return [principal];
  const rest = principal.slice(written.length);
  // A wildcard that covers a trust domain stands for it and stays as it was written.
  return [...new Set(trustDomains.map((name) => (coversSuffix(written, name) ? principal : name + rest)))];
}

/** A value of `trustDomains` under every name of the local trust domain. Unlike in principals, `cluster.local` is just a name here. */
export function expandTrustDomain(value: string, trustDomains: readonly string[]): readonly string[] {
  return trustDomains.includes(value) ? trustDomains : [value];
}

function coversSuffix(pattern: string, trustDomain: string): boolean {
  return pattern.startsWith('*') && trustDomain.endsWith(pattern.slice(1));
}

function covers(pattern: string, trustDomain: string): boolean {
  if (pattern === trustDomain || coversSuffix(pattern, trustDomain)) return true;
  return pattern.endsWith('*') && trustDomain.startsWith(pattern.slice(0, -1));
}
