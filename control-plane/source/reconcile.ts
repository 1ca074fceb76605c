import { duplicateManifests, objectKey } from '../../policy/index.ts';
import type { Manifest, Problem } from '../../policy/types.ts';

/** What a file means: its manifests, all of them or (where a check fails) none. */
export type FileContent = readonly Manifest[];

export interface Reconciled {
  readonly accepted: ReadonlyMap<string, FileContent>;
  /** Files whose new content was refused, and why: an object of theirs is another file's already. */
  readonly refused: ReadonlyMap<string, Problem>;
}

/**
 * Takes new contents of files over the contents in force, each file whole or not at all. An object may stand in one file only: the file in force
 * keeps it, else the first by name. Moves of an object from one file to another succeed where both edits are seen together.
 *
 * @param changes null: the file is gone.
 */
export function reconcile(
  inForce: ReadonlyMap<string, FileContent>,
  changes: ReadonlyMap<string, FileContent | null>,
): Reconciled {
  const refused = new Map<string, Problem>();
  // Each round refuses at least one more change, or is the last; without any change the contents in force are consistent.
  for (;;) {
    const contents = apply(inForce, changes, refused);
    const clash = findClash(contents, inForce, changes, refused);
    if (clash === null) return { accepted: contents, refused };
    refused.set(clash.file, clash.problem);
  }
}

function apply(
  inForce: ReadonlyMap<string, FileContent>,
  changes: ReadonlyMap<string, FileContent | null>,
  refused: ReadonlyMap<string, Problem>,
): Map<string, FileContent> {
  const contents = new Map(inForce);
  for (const [file, content] of changes) {
    if (refused.has(file)) continue;
    if (content === null) contents.delete(file);
    else contents.set(file, content);
  }
  return new Map([...contents].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Of two that stand for one object, one comes from a change, since what is in force is consistent. */
function findClash(
  contents: ReadonlyMap<string, FileContent>,
  inForce: ReadonlyMap<string, FileContent>,
  changes: ReadonlyMap<string, FileContent | null>,
  refused: ReadonlyMap<string, Problem>,
): { readonly file: string; readonly problem: Problem } | null {
  // A change yields to what is in force, and one that brings the object anew to one that had it.
  const ranked: [inForce: Manifest[], kept: Manifest[], brought: Manifest[]] = [[], [], []];
  for (const [file, content] of contents) {
    const changed = changes.has(file) && !refused.has(file);
    const before = new Set(inForce.get(file)?.map(objectKey));
    for (const manifest of content) {
      ranked[changed ? (before.has(objectKey(manifest)) ? 1 : 2) : 0].push(manifest);
    }
  }
  for (const { manifest, problem } of duplicateManifests(ranked.flat())) {
    const message = `${problem.message}; until then this file is left as it was`;
    for (const [file, content] of contents) {
      if (content.includes(manifest)) return { file, problem: { ...problem, message } };
    }
  }
  return null;
}
