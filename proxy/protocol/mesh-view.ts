import {
  type JwksResource,
  keyOf,
  type MeshConfigResource,
  POLICY_KINDS,
  type PolicyResource,
  type RejectedResource,
  type Resource,
  type ResourceKey,
  type SelfResource,
  type TrustBundleResource,
} from '../../mesh/resources.ts';
import { readResource } from './mesh-resource.ts';
import { ServiceRegistry } from './service-registry.ts';

export interface Delta {
  /** True: whatever is not among `upserts` is dropped. */
  readonly full: boolean;
  readonly upserts: readonly Resource[];
  readonly removes: readonly ResourceKey[];
}

/** How often each part of the view has changed; whoever caches something derived from a part compares. */
export interface ViewVersions {
  readonly meshConfig: number;
  readonly trustBundle: number;
  readonly revocations: number;
  /** AuthorizationPolicy, PeerAuthentication and RequestAuthentication together, and the labels by which they select. */
  readonly policies: number;
  /** RequestAuthentication and Jwks together, and the labels. */
  readonly tokens: number;
  /** Workloads and services together. */
  readonly registry: number;
}

/**
 * A worker's picture of the mesh, from the deltas of the control plane. Resources are read strictly; a bad one is rejected and the last good one
 * of its key stays. No I/O; one owner, one thread.
 */
export class MeshView {
  readonly #resources = new Map<ResourceKey, Resource>();
  /** Policies that were sent and refused, of which no earlier one is in force. */
  readonly #missing = new Set<ResourceKey>();
  /** Workloads and services: what stands behind names and addresses. */
  readonly registry = new ServiceRegistry();
  readonly #versions = { meshConfig: 0, trustBundle: 0, revocations: 0, policies: 0, tokens: 0, registry: 0 };
  readonly #checkPolicy: (policy: PolicyResource) => string | null;
  readonly #checkRoot: (pem: string) => string | null;
  #revokedIds: ReadonlySet<string> = new Set();
  #revokedSerials: ReadonlySet<string> = new Set();

  /**
   * @param checkPolicy why a policy cannot be enforced, null where it can: the policy library's judgement
   * @param checkRoot why a PEM block cannot be a root of trust, null where it can
   */
  constructor(checkPolicy: (policy: PolicyResource) => string | null, checkRoot: (pem: string) => string | null) {
    this.#checkPolicy = checkPolicy;
    this.#checkRoot = checkRoot;
  }

  /** Null before the first push. */
  get meshConfig(): MeshConfigResource | null {
    const resource = this.#resources.get('MeshConfig/mesh');
    return resource?.kind === 'MeshConfig' ? resource : null;
  }

  /** Null where the control plane has not told of it: an older one never does. */
  get self(): SelfResource | null {
    const resource = this.#resources.get('Self/self');
    return resource?.kind === 'Self' ? resource : null;
  }

  get trustBundle(): TrustBundleResource | null {
    const resource = this.#resources.get('TrustBundle/roots');
    return resource?.kind === 'TrustBundle' ? resource : null;
  }

  get versions(): ViewVersions {
    return this.#versions;
  }

  resources(): IterableIterator<Resource> {
    return this.#resources.values();
  }

  policies(): PolicyResource[] {
    const policies: PolicyResource[] = [];
    for (const resource of this.#resources.values()) {
      if (isPolicy(resource)) policies.push(resource);
    }
    return policies;
  }

  /** The keys at that URI; null where the control plane has not told of it. */
  jwks(uri: string): JwksResource | null {
    const resource = this.#resources.get(`Jwks/${uri}`);
    return resource?.kind === 'Jwks' ? resource : null;
  }

  /** @param serial upper-case hexadecimal without leading zeros. */
  isRevoked(spiffeId: string, serial: string): boolean {
    return this.#revokedIds.has(spiffeId) || this.#revokedSerials.has(serial);
  }

  /**
   * Takes a delta; what it could not take, with the reason, is returned and leaves the last good one in force. A policy of which there is none is
   * missing from then on: see `lacksPolicy`.
   */
  applyDelta(delta: Delta): RejectedResource[] {
    const rejected: RejectedResource[] = [];
    const mentioned = new Set<ResourceKey>();
    for (const sent of delta.upserts) {
      const read = readResource(sent);
      const key = read.ok ? keyOf(read.resource) : read.key;
      mentioned.add(key);
      const reason = read.ok ? this.#whyNot(read.resource) : read.reason;
      if (read.ok && reason === null) this.#put(key, read.resource);
      else if (reason !== null) {
        rejected.push({ key, reason });
        this.#noteMissing(key);
      }
    }
    const known = [...this.#resources.keys(), ...this.#missing];
    for (const key of delta.full ? known.filter((one) => !mentioned.has(one)) : delta.removes) this.#remove(key);
    return rejected;
  }

  /** Whether a policy, or what it selects by, was sent that could not be read, and none of its name is in force: nobody knows what it would forbid. */
  get lacksPolicy(): boolean {
    return this.#missing.size > 0;
  }

  #noteMissing(key: ResourceKey): void {
    const decides = key === 'Self/self' || POLICY_KINDS.some((kind) => key.startsWith(`${kind}/`));
    if (this.#resources.has(key) || !decides) return;
    this.#missing.add(key);
    this.#versions.policies++;
  }

  #whyNot(resource: Resource): string | null {
    if (resource.kind === 'TrustBundle') {
      for (const [index, pem] of resource.roots.entries()) {
        const reason = this.#checkRoot(pem);
        if (reason !== null) return `roots[${index}] ${reason}`;
      }
    }
    return isPolicy(resource) ? this.#checkPolicy(resource) : null;
  }

  #put(key: ResourceKey, resource: Resource): void {
    this.#missing.delete(key);
    this.#resources.set(key, resource);
    if (resource.kind === 'Workload') this.registry.putWorkload(resource);
    else if (resource.kind === 'Service') this.registry.putService(resource);
    this.#changed(resource.kind);
  }

  #remove(key: ResourceKey): void {
    if (this.#missing.delete(key)) this.#versions.policies++;
    const resource = this.#resources.get(key);
    if (resource === undefined) return;
    this.#resources.delete(key);
    if (resource.kind === 'Workload') this.registry.removeWorkload(resource.name);
    else if (resource.kind === 'Service') this.registry.removeService(resource.name);
    this.#changed(resource.kind);
  }

  #changed(kind: Resource['kind']): void {
    switch (kind) {
      case 'MeshConfig':
        this.#versions.meshConfig++;
        break;
      case 'TrustBundle':
        this.#versions.trustBundle++;
        break;
      case 'Revocations': {
        const revoked = this.#resources.get('Revocations/revoked');
        this.#revokedIds = new Set(revoked?.kind === 'Revocations' ? revoked.spiffeIds : []);
        this.#revokedSerials = new Set(revoked?.kind === 'Revocations' ? revoked.serials : []);
        this.#versions.revocations++;
        break;
      }
      case 'AuthorizationPolicy':
      case 'PeerAuthentication':
        this.#versions.policies++;
        break;
      case 'Self':
      case 'RequestAuthentication':
        // They say how tokens are verified, and how policies read their claims; which ones, the labels.
        this.#versions.policies++;
        this.#versions.tokens++;
        break;
      case 'Jwks':
        this.#versions.tokens++;
        break;
      case 'Workload':
      case 'Service':
        this.#versions.registry++;
        break;
    }
  }
}

function isPolicy(resource: Resource): resource is PolicyResource {
  return (POLICY_KINDS as readonly string[]).includes(resource.kind);
}
