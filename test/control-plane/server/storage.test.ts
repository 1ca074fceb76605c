import fs from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, expect, it } from 'vitest';
import { RegistrationStore } from '../../../control-plane/server/registration-store.ts';
import { PosternError } from '../../../mesh/errors.ts';
import { workloadOf } from '../registry/support.ts';
import { temporaryDirectory } from '../support.ts';

const directory = temporaryDirectory();
const file = join(directory, 'registrations.json');
afterEach(() => fs.rmSync(file, { force: true }));
afterAll(() => fs.rmSync(directory, { recursive: true }));
const ID = 'spiffe://cluster.local/ns/shop/sa/a';
const full = () => {
  throw new PosternError('ERR_DISK_FULL', 'no space');
};

it('labels and workloads survive a restart', () => {
  const store = new RegistrationStore(directory, 'cluster.local');
  store.bindLabels(ID, { b: '2', a: '1' });
  store.bindLabels(ID, { a: '1', b: '2' });
  store.saveWorkloads([workloadOf('a')]);
  const again = new RegistrationStore(directory, 'cluster.local');
  expect(again.labelsOf(ID)).toEqual([{ a: '1', b: '2' }]);
  expect(again.remembered).toEqual([workloadOf('a')]);
  expect(again.labelsOf('spiffe://cluster.local/ns/shop/sa/b')).toBeNull();
});

it('workloads of another trust domain are not remembered', () => {
  new RegistrationStore(directory, 'cluster.local').saveWorkloads([workloadOf('a')]);
  expect(new RegistrationStore(directory, 'other.example').remembered).toEqual([]);
});

it('a binding that cannot be written does not count', () => {
  const store = new RegistrationStore(directory, 'cluster.local', full);
  expect(() => store.bindLabels(ID, { a: '1' })).toThrow('no space');
  expect(store.labelsOf(ID)).toBeNull();
});

it('a damaged file is refused with its name, never taken for an empty one', () => {
  fs.writeFileSync(file, '{"version":1,"labels":');
  expect(() => new RegistrationStore(directory, 'cluster.local')).toThrow(file);
});
