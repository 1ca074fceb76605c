import type { Layer } from '../registry/layer.ts';
import type { Scope } from '../registry/scope.ts';

/** What a scope itself counts for, beside its layers: with what is kept of the steps from it. */
const SCOPE_ENTRIES = 64;

/**
 * What was sent lately, by version, so that a sidecar that comes back gets only what changed. Scopes share layers with each other and resources with
 * the snapshots; what is bounded is the number of entries of all their layers together, each counted once, and their age.
 */
export class RecentScopes {
  readonly #maxEntries: number;
  readonly #maxAgeMs: number;
  readonly #now: () => number;
  /** In the order of last use. */
  readonly #scopes = new Map<string, { readonly scope: Scope; readonly usedAt: number }>();
  /** By how many remembered scopes each is held. */
  readonly #layers = new Map<Layer, number>();
  #entries = 0;

  constructor(maxEntries: number, maxAgeMs: number, now: () => number = () => performance.now()) {
    this.#maxEntries = maxEntries;
    this.#maxAgeMs = maxAgeMs;
    this.#now = now;
  }

  remember(scope: Scope): void {
    this.#forget(scope.version);
    this.#scopes.set(scope.version, { scope, usedAt: this.#now() });
    this.#entries += SCOPE_ENTRIES;
    for (const layer of scope.resources.list) this.#hold(layer);
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

  #hold(layer: Layer): void {
    const holders = this.#layers.get(layer) ?? 0;
    this.#layers.set(layer, holders + 1);
    if (holders === 0) this.#entries += layer.resources.size;
  }

  #forget(version: string): void {
    const found = this.#scopes.get(version);
    if (found === undefined) return;
    this.#scopes.delete(version);
    this.#entries -= SCOPE_ENTRIES;
    for (const layer of found.scope.resources.list) {
      const holders = this.#layers.get(layer) ?? 0;
      if (holders > 1) this.#layers.set(layer, holders - 1);
      else if (this.#layers.delete(layer)) this.#entries -= layer.resources.size;
    }
  }
}
