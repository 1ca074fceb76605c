import type { Manifest, Problem } from '../../policy/types.ts';
import { objectKey } from './manifest-source.ts';

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

function findClash(
  contents: ReadonlyMap<string, FileContent>,
  inForce: ReadonlyMap<string, FileContent>,
  changes: ReadonlyMap<string, FileContent | null>,
  refused: ReadonlyMap<string, Problem>,
): { readonly file: string; readonly problem: Problem } | null {
  const holders = new Map<string, { readonly file: string; readonly manifest: Manifest }>();
  const isChange = (file: string) => changes.has(file) && !refused.has(file);
  const held = (file: string, key: string) =>
    inForce.get(file)?.some((manifest) => objectKey(manifest) === key) === true;
  for (const [file, content] of contents) {
    for (const manifest of content) {
      const key = objectKey(manifest);
      const holder = holders.get(key);
      if (holder === undefined) {
        holders.set(key, { file, manifest });
        continue;
      }
      // One of the two is a change, since what is in force is consistent; a change that brings the object anew yields to one that had it.
      const newcomerYields = isChange(file) && (!isChange(holder.file) || !held(file, key) || held(holder.file, key));
      const [loser, winner] = newcomerYields ? [{ file, manifest }, holder] : [holder, { file, manifest }];
      return { file: loser.file, problem: duplicate(loser.manifest, winner.manifest) };
    }
  }
  return null;
}

function duplicate(loser: Manifest, winner: Manifest): Problem {
  const at = winner.locate([]);
  const what = `${loser.kind} ${loser.namespace}/${loser.name}`;
  return {
    severity: 'error',
    message: `${what} stands in ${at.file}:${at.line} already: this file is left as it was; remove the object from one of the two`,
    location: loser.locate([]),
    resource: what,
  };
}
