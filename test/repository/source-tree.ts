import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';

export const ROOT = dirname(dirname(import.meta.dirname));

/** Not part of the repository: what npm, git, the demo, editors and coverage leave. */
const FOREIGN = new Set(['node_modules', '.git', '.postern', 'coverage']);

/** Paths of all files of the repository, relative to its root, sorted. */
export function repositoryFiles(directory = ROOT): readonly string[] {
  const files: string[] = [];
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (FOREIGN.has(entry.name)) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory()) files.push(...repositoryFiles(path));
    else if (entry.isFile()) files.push(relative(ROOT, path));
  }
  return files.sort();
}

export interface Import {
  readonly from: string;
  /** A file of the repository, relative to its root, or the name of a package or Node module. */
  readonly to: string;
  readonly relative: boolean;
  /** What stands between `import` and `from`; empty for `import()` and imports for effect. */
  readonly names: string;
  /** `import type`, `export type`: gone at run time. */
  readonly typeOnly: boolean;
}

// Comments go first: documentation shows imports too. A string that looks like a comment at the start of a line does not occur in imports.
const COMMENTS = /\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm;
const STATEMENT = /^\s*(?:import|export)\b([^'"`;()]*?)\bfrom\s*['"]([^'"]+)['"]/gm;
const FOR_EFFECT = /^\s*import\s*['"]([^'"]+)['"]/gm;
const EXPRESSION = /\bimport\(\s*['"]([^'"]+)['"]/g;

/** Every import of a source text: of values and types, static and dynamic. */
export function importsOf(file: string, text: string): readonly Import[] {
  const source = text.replace(COMMENTS, '');
  const found: { readonly names: string; readonly specifier: string }[] = [];
  for (const [, names = '', specifier = ''] of source.matchAll(STATEMENT)) found.push({ names, specifier });
  for (const pattern of [FOR_EFFECT, EXPRESSION]) {
    for (const [, specifier = ''] of source.matchAll(pattern)) found.push({ names: '', specifier });
  }
  return found.map(({ names, specifier }) => {
    const isRelative = specifier.startsWith('.');
    const to = isRelative ? normalize(join(dirname(file), specifier)) : specifier;
    return { from: file, to, relative: isRelative, names: names.trim(), typeOnly: /^\s*type\s+\S/.test(names) };
  });
}

/** The imports of every TypeScript file of the repository. */
export function repositoryImports(): readonly Import[] {
  const sources = repositoryFiles().filter((path) => path.endsWith('.ts'));
  return sources.flatMap((path) => importsOf(path, readFileSync(join(ROOT, path), 'utf8')));
}

/** Files that import each other in a circle at run time, as the list of files along it; empty where there is none. */
export function findCycles(imports: readonly Import[]): readonly (readonly string[])[] {
  const edges = new Map<string, string[]>();
  for (const { from, to, relative: internal, typeOnly } of imports) {
    if (!internal || typeOnly) continue;
    const targets = edges.get(from);
    if (targets === undefined) edges.set(from, [to]);
    else targets.push(to);
  }
  const cycles: string[][] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const onPath = new Set<string>();
  const visit = (file: string): void => {
    if (onPath.has(file)) {
      cycles.push([...path.slice(path.indexOf(file)), file]);
      return;
    }
    if (done.has(file)) return;
    done.add(file);
    path.push(file);
    onPath.add(file);
    for (const target of edges.get(file) ?? []) visit(target);
    path.pop();
    onPath.delete(file);
  };
  for (const file of edges.keys()) visit(file);
  return cycles;
}
