import type { Scope } from '../registry/scope.ts';

/**
 * What was sent lately, by version, so that a sidecar that comes back gets only what changed. Scopes share their resources with the snapshots;
 * what is bounded is the number of their entries together, and their age.
 */
export class RecentScopes {
  readonly #maxEntries: number;
  readonly #maxAgeMs: number;
  readonly #now: () => number;
  /** In the order of last use. */
  readonly #scopes = new Map<string, { readonly scope: Scope; readonly usedAt: number }>();
  #entries = 0;

  constructor(maxEntries: number, maxAgeMs: number, now: () => number = () => performance.now()) {
    this.#maxEntries = maxEntries;
    this.#maxAgeMs = maxAgeMs;
    this.#now = now;
  }

  remember(scope: Scope): void {
    this.#forget(scope.version);
    this.#scopes.set(scope.version, { scope, usedAt: this.#now() });
    this.#entries += scope.resources.size;
    for (const [version, { usedAt }] of this.#scopes) {
      if (this.#entries <= this.#maxEntries && this.#now() - usedAt <= this.#maxAgeMs) break;
      this.#forget(version);
    }
  }

  /** Only a scope of the same class of workloads is found: a version is no way to learn what others were told. */
  find(version: string, workloadClass: string): Scope | null {
    const found = this.#scopes.get(version);
    if (found === undefined || found.scope.workloadClass !== workloadClass) return null;
    return this.#now() - found.usedAt <= this.#maxAgeMs ? found.scope : null;
  }

  #forget(version: string): void {
    const found = this.#scopes.get(version);
    if (found === undefined) return;
    this.#scopes.delete(version);
    this.#entries -= found.scope.resources.size;
  }
}
