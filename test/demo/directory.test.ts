import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DemoDirectory } from '../../demo/directory.ts';

let root: string;
let source: string;
let path: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'postern-demo-'));
  source = join(root, 'source');
  path = join(root, 'chosen');
  mkdirSync(source);
  writeFileSync(join(source, 'orders.yaml'), 'shipped\n');
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

test('the shipped manifests are copied into a new directory', () => {
  const directory = DemoDirectory.open(path, source);
  expect(readFileSync(directory.manifest('orders.yaml'), 'utf8')).toBe('shipped\n');
  expect(statSync(directory.data).mode & 0o777).toBe(0o700);
});

test('a directory with files of somebody else is refused and left as it is', () => {
  mkdirSync(path);
  writeFileSync(join(path, 'thesis.txt'), 'years of work');
  expect(() => DemoDirectory.open(path, source)).toThrow(/not empty.*--dir/);
  expect(readdirSync(path)).toEqual(['thesis.txt']);
});

test('a directory that a living demo uses is refused', () => {
  DemoDirectory.open(path, source);
  // Process 1 is always alive, and is not this one.
  writeFileSync(join(path, '.postern-demo'), '1\n');
  expect(() => DemoDirectory.open(path, source)).toThrow(/another demo \(process 1\)/);
});

test('what a demo left is used again, without its data', () => {
  const first = DemoDirectory.open(path, source);
  writeFileSync(join(first.data, 'stale'), '');
  first.release();
  const second = DemoDirectory.open(path, source);
  expect(existsSync(join(second.data, 'stale'))).toBe(false);
  expect(second.keptManifests).toBeNull();
});

test('manifests that the user edited are put aside, not lost', () => {
  const first = DemoDirectory.open(path, source);
  first.writeManifest('orders.yaml', 'edited\n');
  first.release();
  const second = DemoDirectory.open(path, source);
  expect(readFileSync(second.manifest('orders.yaml'), 'utf8')).toBe('shipped\n');
  expect(readFileSync(join(second.keptManifests ?? '', 'orders.yaml'), 'utf8')).toBe('edited\n');
});

test('a path too long for Unix sockets is refused before anything is made', () => {
  const long = join(root, 'x'.repeat(100));
  expect(() => DemoDirectory.open(long, source)).toThrow(/too long for Unix sockets/);
  expect(existsSync(long)).toBe(false);
});

test('files of a workload are readable by their owner alone', () => {
  const folder = DemoDirectory.open(path, source).workload('orders', { token: 'secret' }, null);
  expect(statSync(join(folder, 'token')).mode & 0o777).toBe(0o600);
});
