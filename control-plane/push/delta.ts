import type { ServerMessage } from '../../mesh/push.ts';
import { keyOf, type Resource, type ResourceKey } from '../../mesh/resources.ts';
import { textOf } from '../registry/content.ts';
import { layerStep } from '../registry/layer.ts';
import type { Scope } from '../registry/scope.ts';

/** What one scope must be told to become another. */
export interface Delta {
  readonly version: string;
  readonly full: boolean;
  /** Keys in `line`'s upserts and removes. Where `full`, upserts are those of the whole scope, and none is listed here. */
  readonly upserts: readonly ResourceKey[];
  readonly removes: readonly ResourceKey[];
  /** The message, with its newline; shared by all sidecars that take the same step. */
  readonly line: string;
}

/**
 * Resources are compared by identity, which the registry keeps for what did not change from one snapshot to the next, and only where that differs by
 * their text.
 *
 * @param again what is sent although it is the same
 */
export function deltaBetween(from: Scope, to: Scope, again: ReadonlySet<ResourceKey> = new Set()): Delta {
  const steps = to.resources.list.map((layer, index) => {
    const before = from.resources.list[index];
    return before === undefined ? { upserts: [...layer.resources.values()], removes: [] } : layerStep(before, layer);
  });
  // What only went from one layer to another is the same to the sidecar.
  const changed = steps.flatMap(({ upserts }) => upserts).filter((one) => !isSame(from.resources.get(keyOf(one)), one));
  const removes = steps.flatMap((step) => step.removes).filter((key) => !to.resources.has(key));
  const keys = new Set(changed.map(keyOf));
  const repeated = [...again].flatMap((key) => (keys.has(key) ? [] : (to.resources.get(key) ?? [])));
  const upserts = [...changed, ...repeated];
  const { version } = to;
  // The text of each resource is made once for all; only the frame around them is made here.
  const line = deltaLine(version, false, upserts.map(textOf), removes);
  return { version, full: false, upserts: upserts.map((one: Resource) => keyOf(one)), removes, line };
}

function isSame(a: Resource | undefined, b: Resource): boolean {
  return a === b || (a !== undefined && textOf(a) === textOf(b));
}

/** Everything, for a sidecar that holds nothing that is known here. */
export function fullDelta(to: Scope): Delta {
  const { version } = to;
  const texts = to.resources.list.map(({ text }) => text).filter((text) => text !== '');
  return { version, full: true, upserts: [], removes: [], line: deltaLine(version, true, texts, []) };
}

/** A sidecar that holds exactly this already, e.g. after a restart of the control plane: only the version is new. */
export function confirmation(to: Scope): Delta {
  const { version } = to;
  return { version, full: false, upserts: [], removes: [], line: deltaLine(version, false, [], []) };
}

function deltaLine(version: string, full: boolean, texts: readonly string[], removes: readonly ResourceKey[]): string {
  return `{"type":"delta","version":${JSON.stringify(version)},"full":${full},"upserts":[${texts.join(',')}],"removes":${JSON.stringify(removes)}}\n`;
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
