import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';
import { COMMANDS } from '../../cli/commands.ts';
import { ROOT, repositoryFiles } from './source-tree.ts';

const files = repositoryFiles();
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const documents = files.filter((path) => path.endsWith('.md')).map((path) => ({ path, text: read(path) }));
const allMatches = (text: string, pattern: RegExp): readonly string[] =>
  [...text.matchAll(pattern)].map(([, match = '']) => match);

/** Paths in code spans that begin in one of the repository's own folders. `<placeholders>` and globs name no file. */
const ROOMS = 'mesh|policy|kubernetes|proxy|control-plane|cli|demo|docs|benchmarks|test|manifests|scripts|bin|\\.ci';
const PATH_IN_CODE = new RegExp(`\`((?:${ROOMS})/[\\w./-]*)\``, 'g');

describe.each(documents)('$path', ({ path, text }) => {
  test('names only files that exist', () => {
    const links = allMatches(text, /\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)/g).map((link) =>
      normalize(join(dirname(path), link)),
    );
    const named = [...links, ...allMatches(text, PATH_IN_CODE)];
    expect(named.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
  });

  test('names only commands that exist', () => {
    const code = allMatches(text, /(```[\s\S]*?```|`[^`\n]+`)/g).join('\n');
    const commands = new Set(allMatches(code, /(?:^|[\s/`])postern ([a-z][a-z-]*)\b/gm));
    const known = new Set([...Object.keys(COMMANDS), 'help']);
    expect([...commands].filter((name) => !known.has(name))).toEqual([]);
  });

  test('names only npm scripts that exist', () => {
    const { scripts }: { scripts: { [name: string]: string } } = JSON.parse(read('package.json'));
    const named = [...allMatches(text, /\bnpm run ([\w:-]+)/g), ...allMatches(text, /\bnpm (start|test)\b/g)];
    expect(named.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
  });
});

describe('the repository', () => {
  const binary = /\.(?:png|jpg|gif|ico|woff2?)$/;
  const texts = files.filter((path) => !binary.test(path)).map((path) => ({ path, text: read(path) }));

  test('has a README that a newcomer reads in one sitting', () => {
    expect(read('README.md').split('\n').length).toBeLessThanOrEqual(200);
  });

  test('contains no path of a developer’s machine', () => {
    const private_ = /(?<![\w.])\/(?:work|home\/[a-z]+|Users)\/[\w.-]+/;
    expect(texts.filter(({ text }) => private_.test(text)).map(({ path }) => path)).toEqual([]);
  });

  test('does not name the package registry that a developer used', () => {
    const registry = /"resolved"\s*:|registry\.[a-z0-9-]+\.[a-z]+|\b(?:npm|npx)[\w ]*--registry/;
    const self = 'test/repository/documents.test.ts';
    expect(texts.filter(({ path, text }) => path !== self && registry.test(text)).map(({ path }) => path)).toEqual([]);
  });

  test('has executable entry points', () => {
    for (const path of ['bin/postern', '.ci/run']) expect(read(path)).toMatch(/^#!/);
  });
});
