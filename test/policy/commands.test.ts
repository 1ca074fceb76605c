import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { authnMode } from '../../cli/authn-mode.ts';
import { loadManifests, problemLine } from '../../cli/manifest-files.ts';
import { YAML_LIMITS } from '../../policy/index.ts';

const SERVICE =
  'apiVersion: v1\nkind: Service\nmetadata: {name: orders, namespace: shop}\nspec: {ports: [{port: 80}]}\n';
const STRICT =
  'apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: mesh}\nspec: {mtls: {mode: STRICT}}\n';
const PORTS = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  portLevelMtls:
    8080: {mode: DISABLE}
`;
const MESH = 'apiVersion: postern.dev/v1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {rootNamespace: mesh}\n';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'postern-manifests-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function write(name: string, text: string | Buffer): string {
  const path = join(directory, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

const lines = (...paths: readonly string[]): string[] =>
  loadManifests(paths).problems.map((problem) => problemLine(problem).replaceAll(`${directory}/`, ''));
const refusal = (code: string, exitCode: number) => expect.objectContaining({ code, exitCode });

describe('reading manifests', () => {
  test('takes the *.yaml, *.yml and *.json files below a directory, sorted, but for hidden ones', () => {
    for (const name of ['b.yml', 'a/z.yaml', 'c.json']) write(name, 'x');
    for (const name of ['.hidden.yaml', '.git/a.yaml', 'notes.txt']) write(name, 'x');
    expect(lines(directory).map((line) => line.split(':')[0])).toEqual(['a/z.yaml', 'b.yml', 'c.json']);
  });

  test('takes a file of any name that is named itself, once', () => {
    const path = write('manifest.txt', SERVICE);
    expect(loadManifests([path, path])).toMatchObject({ files: 1, problems: [] });
  });

  test('follows links to files and directories, and not in circles', () => {
    write('real/a.yaml', SERVICE);
    symlinkSync(directory, join(directory, 'real', 'back'));
    expect(loadManifests([directory])).toMatchObject({ files: 1, problems: [] });
  });

  test('writes a problem as file:line:col: severity: message', () => {
    write('a.yaml', SERVICE.replace('port: 80', 'port: 0'));
    expect(lines(directory)).toEqual([
      'a.yaml:4:23: error: Service shop/orders: port must be a whole number from 1 to 65535',
    ]);
  });

  test('finds an object that stands in two files', () => {
    write('a.yaml', SERVICE);
    write('b.yaml', SERVICE);
    expect(lines(directory)).toEqual([expect.stringMatching(/^b\.yaml:1:1: error: Service shop\/orders: .*a\.yaml:1/)]);
  });

  test('reports a file that is too large or not UTF-8', () => {
    write('a.yaml', 'x'.repeat(YAML_LIMITS.bytes + 1));
    write('b.yaml', Buffer.from([0x61, 0xff]));
    expect(lines(directory)).toEqual([
      expect.stringContaining('a.yaml:1:1: error: is larger than'),
      'b.yaml:1:1: error: is not UTF-8',
    ]);
  });

  test('refuses what is not there, and what is no file', () => {
    expect(() => loadManifests([join(directory, 'nope')])).toThrow(refusal('ERR_INPUT', 66));
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    expect(() => loadManifests([pipe])).toThrow(refusal('ERR_INPUT', 66));
  });
});

describe('postern authn mode', () => {
  const workload = '{"namespace":"shop","labels":{"app":"orders"}}';
  const mode = (change: Partial<Parameters<typeof authnMode>[0]> = {}): string =>
    authnMode({ manifests: directory, workload, port: '80', ...change });

  test('gives the mode by the MeshConfig among the manifests', () => {
    for (const [name, text] of Object.entries({ 's.yaml': STRICT, 'p.yaml': PORTS, 'm.yaml': MESH })) write(name, text);
    expect(mode()).toBe('STRICT');
    expect(mode({ port: '8080' })).toBe('DISABLE');
    expect(mode({ port: '8080', workload: '{"namespace":"shop"}' })).toBe('STRICT');
  });

  test('gives the mode by a file of mesh settings', () => {
    write('s.yaml', STRICT);
    expect(mode()).toBe('PERMISSIVE');
    expect(
      mode({ meshConfig: write('mesh.cfg', 'rootNamespace: mesh\ntrustDomain: td\npathNormalization: {}\n') }),
    ).toBe('STRICT');
  });

  test.each([
    ['0', workload],
    ['65536', workload],
    ['http', workload],
    ['80', '{'],
    ['80', '[]'],
    ['80', '{}'],
    ['80', '{"namespace":"a","labels":{"a":1}}'],
    ['80', '{"namespace":"a","label":{}}'],
  ])('refuses port %s and workload %s', (port, text) => {
    expect(() => mode({ port, workload: text })).toThrow(refusal('ERR_USAGE', 64));
  });

  test('refuses manifests and mesh settings that are not admissible', () => {
    expect(() => mode({ meshConfig: write('mesh.cfg', 'rootNamespace: A\n') })).toThrow(refusal('ERR_MESH_CONFIG', 65));
    expect(() => mode({ meshConfig: write('mesh.cfg', '- a\n') })).toThrow(refusal('ERR_MESH_CONFIG', 65));
    write('bad.yaml', STRICT.replace('STRICT', 'strict'));
    expect(() => mode()).toThrow(refusal('ERR_MANIFEST', 65));
  });
});

describe('postern validate, as a process', () => {
  const postern = (...args: readonly string[]) => {
    const main = join(import.meta.dirname, '../../cli/main.ts');
    return spawnSync(process.execPath, [main, 'validate', ...args], { encoding: 'utf8' });
  };

  test('exits 0 with warnings, 1 with errors, 66 for a path that does not exist; --json prints the problems', () => {
    const doubtful = write('w.yaml', STRICT.replace('{mtls', '{selector: {}, mtls'));
    expect(postern(doubtful)).toMatchObject({ status: 0, stdout: expect.stringContaining('w.yaml:4:8: warning: ') });
    const bad = write('e.yaml', SERVICE.replace('port: 80', 'port: 0'));
    expect(postern(bad)).toMatchObject({ status: 1, stdout: expect.stringContaining('e.yaml:4:23: error: ') });
    const json = postern(bad, '--json');
    expect(json.status).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject([
      { severity: 'error', location: { line: 4, column: 23 }, resource: 'Service shop/orders' },
    ]);
    expect(postern(join(directory, 'nope'))).toMatchObject({
      status: 66,
      stdout: '',
      stderr: expect.stringContaining('does not exist'),
    });
  });
});
