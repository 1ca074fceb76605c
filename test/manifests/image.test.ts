import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { everythingInstallable } from '../../cli/install/manifests.ts';
import { settingsIn } from '../../kubernetes/install/settings.ts';
import { ROOT, repositoryImports } from '../repository/source-tree.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const { version, dependencies } = JSON.parse(read('package.json')) as {
  readonly version: string;
  readonly dependencies: { readonly [name: string]: string };
};

/** Instructions, with continued lines joined. */
const instructions = read('Dockerfile')
  .replace(/^#.*\n/gm, '')
  .replace(/\\\n/g, ' ')
  .split('\n')
  .filter((line) => line.trim() !== '')
  .map((line) => ({ name: line.split(' ', 1)[0] ?? '', rest: line.slice(line.indexOf(' ') + 1).trim() }));
const all = (name: string): readonly string[] =>
  instructions.filter((one) => one.name === name).map(({ rest }) => rest);

/** What is copied from the repository. */
const copied = all('COPY')
  .filter((rest) => !rest.startsWith('--from'))
  .flatMap((rest) => rest.split(/\s+/).slice(0, -1));
const inImage = (path: string): boolean => copied.some((one) => path === one || path.startsWith(`${one}/`));
const imports = repositoryImports().filter(({ from, typeOnly }) => inImage(from) && !typeOnly);

describe('the image', () => {
  test('holds every file that one of its files imports', () => {
    expect(imports.filter(({ from }) => from === 'cli/main.ts')).not.toEqual([]);
    const missing = imports.filter(({ to, relative }) => relative && !inImage(to));
    expect(missing.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  test('holds every package that one of its files imports: those for development are left out', () => {
    const packages = imports.filter(({ to, relative }) => !relative && !isBuiltin(to));
    const missing = packages.filter(({ to }) => !Object.hasOwn(dependencies, to.split('/', 1)[0] ?? to));
    expect(missing.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  test('is built from what it copies, and nothing else is sent to the builder', () => {
    const allowed = read('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(allowed[0]).toBe('*');
    expect(allowed.slice(1).toSorted()).toEqual(copied.map((path) => `!${path}`).toSorted());
  });

  test('runs as a user who is not root and is known by number, as the kubelet must be sure of', () => {
    expect(all('USER')).toEqual([expect.stringMatching(/^[1-9][0-9]*:[1-9][0-9]*$/)]);
    expect(all('ENTRYPOINT')).toEqual(['["postern"]']);
  });

  test('is of the version of package.json, as are the manifests', () => {
    expect(all('LABEL').join(' ')).toContain(`org.opencontainers.image.version="${version}"`);
    const deployment = everythingInstallable().find(({ kind }) => kind === 'Deployment');
    expect(JSON.stringify(deployment)).toContain(`"image":"postern:${version}"`);
    expect(settingsIn(everythingInstallable())).toContain(`image: postern:${version}`);
  });
});
