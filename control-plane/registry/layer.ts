import { createHash } from 'node:crypto';
import { keyOf, type Resource, type ResourceKey } from '../../mesh/resources.ts';
import { hashOf, textOf } from './content.ts';

/** A part of what sidecars are told, shared by all whom it concerns: compared, hashed and written out once for all of them. Immutable. */
export class Layer {
  readonly resources: ReadonlyMap<ResourceKey, Resource>;
  #digest: Buffer | null = null;
  #text: string | null = null;

  constructor(resources: Iterable<Resource>) {
    this.resources = new Map(Array.from(resources, (resource) => [keyOf(resource), resource]));
  }

  /** Of the content, whatever the order. */
  get digest(): Buffer {
    this.#digest ??= digest(this.resources.values());
    return this.#digest;
  }

  /** The resources as the elements of a JSON array, without its brackets. */
  get text(): string {
    this.#text ??= Array.from(this.resources.values(), textOf).join(',');
    return this.#text;
  }

  holdsSame(other: Layer): boolean {
    if (this.resources.size !== other.resources.size) return false;
    for (const [key, resource] of this.resources) if (other.resources.get(key) !== resource) return false;
    return true;
  }
}

function digest(resources: Iterable<Resource>): Buffer {
  const hash = createHash('sha256');
  for (const one of Array.from(resources, hashOf).sort(Buffer.compare)) hash.update(one);
  return hash.digest();
}

/**
 * What a scope holds, as one map of three layers, from the narrowest: what is its own, what the workloads of its namespace know beside what
 * everybody knows, and that. No key stands in two of them.
 */
export class Layers {
  readonly own: Layer;
  readonly list: readonly Layer[];

  constructor(own: Layer, ofNamespace: Layer, everybody: Layer) {
    this.own = own;
    this.list = [own, ofNamespace, everybody];
  }

  get size(): number {
    return this.list.reduce((sum, { resources }) => sum + resources.size, 0);
  }

  get(key: ResourceKey): Resource | undefined {
    for (const { resources } of this.list) {
      const found = resources.get(key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  has(key: ResourceKey): boolean {
    return this.get(key) !== undefined;
  }

  *keys(): IterableIterator<ResourceKey> {
    for (const { resources } of this.list) yield* resources.keys();
  }

  *values(): IterableIterator<Resource> {
    for (const { resources } of this.list) yield* resources.values();
  }
}

/** What differs between two layers of one place. */
export interface LayerStep {
  readonly upserts: readonly Resource[];
  readonly removes: readonly ResourceKey[];
}

const steps = new WeakMap<Layer, WeakMap<Layer, LayerStep>>();
const NO_STEP: LayerStep = { upserts: [], removes: [] };

/** Made once for each pair, however many scopes take the step. */
export function layerStep(from: Layer, to: Layer): LayerStep {
  if (from === to) return NO_STEP;
  const known = steps.get(from) ?? new WeakMap<Layer, LayerStep>();
  steps.set(from, known);
  const before = known.get(to);
  if (before !== undefined) return before;
  const step = {
    upserts: [...to.resources].flatMap(([key, one]) => (from.resources.get(key) === one ? [] : [one])),
    removes: [...from.resources.keys()].filter((key) => !to.resources.has(key)),
  };
  known.set(to, step);
  return step;
}
