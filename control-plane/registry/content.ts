import { createHash } from 'node:crypto';
import { keyOf, type Resource, type ResourceKey } from '../../mesh/resources.ts';

/** Resources are immutable, so their text and their hash are made once and shared by every push. */
const texts = new WeakMap<Resource, string>();
const hashes = new WeakMap<Resource, Buffer>();

export function textOf(resource: Resource): string {
  const known = texts.get(resource);
  if (known !== undefined) return known;
  const text = JSON.stringify(resource);
  texts.set(resource, text);
  return text;
}

export function hashOf(resource: Resource): Buffer {
  const known = hashes.get(resource);
  if (known !== undefined) return known;
  const hash = createHash('sha256').update(textOf(resource)).digest();
  hashes.set(resource, hash);
  return hash;
}

/**
 * Gives a resource that did not change the object it was before, so that comparing two snapshots is comparing identities.
 * Lives for one rebuild: `before` is what the last snapshot held.
 */
export class Interner {
  readonly resources = new Map<ResourceKey, Resource>();
  readonly #before: ReadonlyMap<ResourceKey, Resource>;

  constructor(before: ReadonlyMap<ResourceKey, Resource>) {
    this.#before = before;
  }

  intern<T extends Resource>(made: T): T {
    const key = keyOf(made);
    const before = this.#before.get(key);
    // The same key has the same kind, and the same text the same shape: what is returned is a T.
    const isSame = before === made || (before !== undefined && textOf(before) === textOf(made));
    const resource = isSame ? (before as T) : made;
    this.resources.set(key, resource);
    return resource;
  }
}
