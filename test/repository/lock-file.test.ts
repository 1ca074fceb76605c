import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from './source-tree.ts';

interface Entry {
  readonly version?: string;
  readonly integrity?: string;
  readonly os?: readonly string[];
  readonly optionalDependencies?: { readonly [name: string]: string };
}

const { packages }: { packages: { readonly [path: string]: Entry } } = JSON.parse(
  readFileSync(join(ROOT, 'package-lock.json'), 'utf8'),
);

describe('package-lock.json', () => {
  test('has an entry for every optional package of every package: `npm ci` refuses the file otherwise', () => {
    const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
      ),
    );
    expect(missing).toEqual([]);
  });

  test('pins the content of everything that is installed on Linux', () => {
    const unpinned = Object.entries(packages).filter(
      ([path, { integrity, os = ['linux'] }]) => path !== '' && os.includes('linux') && integrity === undefined,
    );
    expect(unpinned.map(([path]) => path).filter((path) => !path.endsWith('-musl'))).toEqual([]);
  });

  test('pins a Node for each architecture that Postern runs on', () => {
    for (const arch of ['x64', 'arm64'])
      expect(packages).toHaveProperty([`node_modules/node-linux-${arch}`, 'integrity']);
  });
});
