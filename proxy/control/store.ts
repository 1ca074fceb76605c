import { keyOf, type RejectedResource, type Resource, type ResourceKey } from '../../mesh/resources.ts';
import type { Delta } from './server-message.ts';

/**
 * The resources in force, and what was rejected instead.
 *
 * ALWAYS: what is in force here is what every worker that has caught up has in force: a rejected resource leaves the last good one of its key.
 */
export class ResourceStore {
  readonly #inForce = new Map<ResourceKey, Resource>();
  readonly #rejected = new Map<ResourceKey, string>();
  #version: string | null = null;
  #changedAt: number | null = null;

  /** Version of the last delta that was applied; null before the first. */
  get version(): string | null {
    return this.#version;
  }

  /** Unix time of the last applied delta, milliseconds; null before the first. */
  get changedAt(): number | null {
    return this.#changedAt;
  }

  resources(): Iterable<Resource> {
    return this.#inForce.values();
  }

  get size(): number {
    return this.#inForce.size;
  }

  /** Everything that the control plane wants and the sidecar does not have in force, with the latest reason. */
  rejected(): readonly RejectedResource[] {
    return Array.from(this.#rejected, ([key, reason]) => ({ key, reason }));
  }

  roots(): readonly string[] {
    const bundle = this.#inForce.get('TrustBundle/roots');
    return bundle?.kind === 'TrustBundle' ? bundle.roots : [];
  }

  /** The control plane says that the application has ended for good. */
  get applicationEnded(): boolean {
    const self = this.#inForce.get('Self/self');
    return self?.kind === 'Self' && self.ended;
  }

  /** Everything in force as one full delta, for a worker that starts; null before the first. */
  snapshot(): Delta | null {
    if (this.#version === null) return null;
    return { version: this.#version, full: true, upserts: [...this.#inForce.values()], removes: [], unreadable: [] };
  }

  commit(delta: Delta, rejectedByWorkers: readonly RejectedResource[], now: number): void {
    const refused = new Map([...delta.unreadable, ...rejectedByWorkers].map(({ key, reason }) => [key, reason]));
    if (delta.full) {
      const kept = new Set([...delta.upserts.map(keyOf), ...refused.keys()]);
      for (const key of this.#inForce.keys()) if (!kept.has(key)) this.#inForce.delete(key);
      this.#rejected.clear();
    }
    for (const key of delta.removes) {
      this.#inForce.delete(key);
      this.#rejected.delete(key);
    }
    for (const resource of delta.upserts) {
      const key = keyOf(resource);
      if (refused.has(key)) continue;
      this.#inForce.set(key, resource);
      this.#rejected.delete(key);
    }
    for (const [key, reason] of refused) this.#rejected.set(key, reason);
    this.#version = delta.version;
    this.#changedAt = now;
  }
}
