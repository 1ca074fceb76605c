import fs from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { TestPlane, TestSidecar } from './support.ts';

let plane: TestPlane;
afterEach(() => plane.stop());

it('a rotation of the root waits for every sidecar’s acknowledgement, then the server shows a certificate of the new root', async () => {
  plane = await TestPlane.start();
  const sidecar = await TestSidecar.join(plane, 'orders');
  const stream = await sidecar.stream('orders-1');
  await stream.first();
  await stream.acknowledge();
  const caFile = join(plane.directory, 'data', 'ca.pem');
  const before = fs.readFileSync(caFile, 'utf8');
  const rotation = plane.admin('POST', '/ca/rotate');
  const bundle = await eventually(
    () => {
      const found = stream.resources.get('TrustBundle/roots');
      return found?.kind === 'TrustBundle' && found.roots.length === 2 ? found : null;
    },
    { what: 'two roots' },
  );
  expect(JSON.parse(await plane.admin('GET', '/ca'))).toMatchObject({ rotation: 'begun' });
  await stream.acknowledge();
  expect((await rotation).trim().split('\n').at(-1)).toContain('done');
  const [, newRoot = ''] = bundle.roots;
  expect(fs.readFileSync(caFile, 'utf8')).toBe(newRoot + before);
  Object.assign(plane, { ca: newRoot });
  expect((await sidecar.requestCertificate({})).status).toBe(200);
  expect(stream.ended).toBe(false);
});
