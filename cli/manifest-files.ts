import { closeSync, fstatSync, openSync, readdirSync, readSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import {
  duplicateManifests,
  type Manifest,
  type Problem,
  parseManifests,
  validateManifest,
  YAML_LIMITS,
} from '../policy/index.ts';

const EXTENSION = /\.(?:ya?ml|json)$/;
/** A directory of manifests is written by people; beyond this it is the wrong directory. */
const MAX_FILES = 10_000;
const MAX_DEPTH = 32;

export interface LoadedManifests {
  readonly files: number;
  readonly manifests: readonly Manifest[];
  /** In the order of files and lines. */
  readonly problems: readonly Problem[];
}

/**
 * Reads and validates the manifests at `paths`: files of any name, and the *.yaml, *.yml and *.json files below directories but for hidden ones.
 * @throws PosternError where a path cannot be read; what is wrong inside a file is a problem.
 */
export function loadManifests(paths: readonly string[]): LoadedManifests {
  const files = listFiles(paths);
  const manifests: Manifest[] = [];
  const problems: Problem[] = [];
  for (const file of files) {
    const text = readText(file);
    if (typeof text !== 'string') {
      problems.push(text);
      continue;
    }
    const parsed = parseManifests(text, file);
    const found = [...parsed.problems, ...parsed.manifests.flatMap(validateManifest)];
    problems.push(...found.toSorted((a, b) => a.location.line - b.location.line));
    manifests.push(...parsed.manifests);
  }
  problems.push(...duplicateManifests(manifests).map(({ problem }) => problem));
  return { files: files.length, manifests, problems };
}

/** `shop/policies.yaml:3:5: error: …`, as compilers write it, so that editors find the place. */
export function problemLine({ location, severity, resource, message }: Problem): string {
  const subject = resource === null ? '' : `${resource}: `;
  return `${location.file}:${location.line}:${location.column}: ${severity}: ${subject}${message}`;
}

/** The text of a file that is small enough and UTF-8; else what is wrong with it. */
export function readText(file: string): string | Problem {
  const bytes = readBounded(file, YAML_LIMITS.bytes + 1);
  const problem = (message: string): Problem => ({
    severity: 'error',
    message,
    location: { file, line: 1, column: 1 },
    resource: null,
  });
  if (bytes.length > YAML_LIMITS.bytes) return problem(`is larger than ${YAML_LIMITS.bytes} bytes: split the file`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return problem('is not UTF-8');
  }
}

/** At most `limit` bytes, whatever the file grows to meanwhile. */
function readBounded(file: string, limit: number): Buffer {
  return orExplain(file, () => {
    const descriptor = openSync(file, 'r');
    try {
      if (!fstatSync(descriptor).isFile()) throw notAFile(file);
      const buffer = Buffer.allocUnsafe(limit);
      let length = 0;
      while (length < limit) {
        const read = readSync(descriptor, buffer, length, limit - length, null);
        if (read === 0) break;
        length += read;
      }
      return buffer.subarray(0, length);
    } finally {
      closeSync(descriptor);
    }
  });
}

function listFiles(paths: readonly string[]): readonly string[] {
  const files = new Set<string>();
  for (const path of paths) {
    const stats = orExplain(path, () => statSync(path));
    if (stats.isDirectory()) walk(path, 0, new Set(), files);
    else if (stats.isFile()) addFile(path, files);
    else throw notAFile(path);
  }
  return [...files];
}

/** `above`: the directories that this one is in, so that a symbolic link back to one of them ends there. */
function walk(directory: string, depth: number, above: ReadonlySet<string>, files: Set<string>): void {
  if (depth > MAX_DEPTH) throw tooMuch(`${directory} is nested over ${MAX_DEPTH} directories deep`);
  const real = orExplain(directory, () => realpathSync(directory));
  if (above.has(real)) return;
  const names = orExplain(directory, () => readdirSync(directory)).sort();
  for (const name of names) {
    if (name.startsWith('.')) continue;
    const path = join(directory, name);
    const stats = orExplain(path, () => statSync(path));
    if (stats.isDirectory()) walk(path, depth + 1, new Set([...above, real]), files);
    else if (stats.isFile() && EXTENSION.test(name)) addFile(path, files);
  }
}

function addFile(path: string, files: Set<string>): void {
  files.add(path);
  if (files.size > MAX_FILES) throw tooMuch(`there are over ${MAX_FILES} manifest files; name a narrower path`);
}

function orExplain<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof PosternError) throw error;
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const message =
      code === 'ENOENT'
        ? `${path} does not exist: name a manifest or a directory of manifests`
        : `cannot read ${path}: ${messageOf(error)}`;
    throw new PosternError('ERR_INPUT', message, {
      cause: error,
      exitCode: code === 'EACCES' ? EXIT.noPermission : EXIT.noInput,
    });
  }
}

function notAFile(path: string): PosternError {
  return new PosternError('ERR_INPUT', `${path} is neither a file nor a directory`, { exitCode: EXIT.noInput });
}

function tooMuch(message: string): PosternError {
  return new PosternError('ERR_INPUT', message, { exitCode: EXIT.dataError });
}
