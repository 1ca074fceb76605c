import { parseManifests, validateManifest } from '../../policy/index.ts';
import type { Manifest, Problem } from '../../policy/types.ts';

/** Reads one file's text; everything that is to be said about it, from the YAML to what each kind means. */
export function readManifests(
  text: string,
  file: string,
): { readonly manifests: readonly Manifest[]; readonly problems: readonly Problem[] } {
  const { manifests, problems } = parseManifests(text, file);
  return { manifests, problems: [...problems, ...manifests.flatMap((manifest) => validateManifest(manifest))] };
}
