import type { ServerMessage } from '../../mesh/push.ts';
import { keyOf, type ResourceKey } from '../../mesh/resources.ts';
import { textOf } from '../registry/content.ts';
import type { Scope } from '../registry/scope.ts';

/** What one scope must be told to become another. */
export interface Delta {
  readonly version: string;
  readonly full: boolean;
  /** Keys in `line`'s upserts and removes. */
  readonly upserts: readonly ResourceKey[];
  readonly removes: readonly ResourceKey[];
  /** The message, with its newline; shared by all sidecars that take the same step. */
  readonly line: string;
}

/** `from` null: everything. Resources are compared by identity, which the registry keeps for what did not change. */
export function deltaBetween(from: Scope | null, to: Scope, again: ReadonlySet<ResourceKey> = new Set()): Delta {
  const upserts = [...to.resources].filter(
    ([key, resource]) => from?.resources.get(key) !== resource || again.has(key),
  );
  const removes = from === null ? [] : [...from.resources.keys()].filter((key) => !to.resources.has(key));
  const texts = upserts.map(([, resource]) => textOf(resource));
  const full = from === null;
  return {
    version: to.version,
    full,
    upserts: upserts.map(([, resource]) => keyOf(resource)),
    removes,
    // The text of each resource is made once for all; only the frame around them is made here.
    line: `{"type":"delta","version":${JSON.stringify(to.version)},"full":${full},"upserts":[${texts.join(',')}],"removes":${JSON.stringify(removes)}}\n`,
  };
}

/** A sidecar that holds exactly this already, e.g. after a restart of the control plane: only the version is new. */
export function confirmation(to: Scope): Delta {
  const { version } = to;
  const line = lineOf({ type: 'delta', version, full: false, upserts: [], removes: [] });
  return { version, full: false, upserts: [], removes: [], line };
}

export function lineOf(message: ServerMessage): string {
  return `${JSON.stringify(message)}\n`;
}

/** Deltas of the steps that many sidecars take together. */
export class DeltaCache {
  #steps = new WeakMap<Scope, WeakMap<Scope, Delta>>();

  between(from: Scope, to: Scope): Delta {
    const steps = this.#steps.get(from) ?? new WeakMap<Scope, Delta>();
    this.#steps.set(from, steps);
    const delta = steps.get(to) ?? deltaBetween(from, to);
    steps.set(to, delta);
    return delta;
  }
}
