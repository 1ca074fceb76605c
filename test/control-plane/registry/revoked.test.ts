import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseSubject } from '../../../control-plane/ca/revocation.ts';
import { type RevokedSubjects, revokedByManifests } from '../../../control-plane/registry/revoked.ts';
import { buildSnapshot } from '../../../control-plane/registry/snapshot.ts';
import { validateObject } from '../../../policy/index.ts';
import { manifestsOf, SETTINGS } from './support.ts';

const ID = 'spiffe://cluster.local/ns/shop/sa/orders';
const OTHER = 'spiffe://cluster.local/ns/bank/sa/orders';
const revocation = (name: string, spec: string) =>
  `apiVersion: postern.dev/v1\nkind: Revocation\nmetadata: { name: ${name} }\nspec: ${spec}\n`;

it('Revocation objects and the list are one, each subject once and in one form', () => {
  const manifests = manifestsOf(
    [
      revocation('a', `{ spiffeId: "${ID}", reason: left }`),
      revocation('b', '{ serial: "00:ab:CD" }'),
      revocation('c', '{ serial: "abcd" }'),
    ].join('---\n'),
  );
  expect(revokedByManifests(manifests)).toEqual({ spiffeIds: [ID], serials: ['ABCD', 'ABCD'] });
  const build = (revoked: RevokedSubjects) => buildSnapshot({ ...SETTINGS, manifests, revoked }, null).revocations;
  expect(build({ spiffeIds: [OTHER], serials: ['01'] })).toMatchObject({
    spiffeIds: [OTHER, ID],
    serials: ['01', 'ABCD'],
  });
  expect(build({ spiffeIds: [ID], serials: [] })).toMatchObject({ spiffeIds: [ID] });
});

it('whatever the validator lets through can be read', () => {
  const serials = fc.oneof(
    fc.string({ unit: fc.constantFrom('0', '1', 'a', 'F', ':'), maxLength: 44 }),
    fc.array(fc.constantFrom('0', '00', 'aB', '9'), { minLength: 1, maxLength: 22 }).map((parts) => parts.join(':')),
  );
  const reads = (serial: string) => {
    try {
      return parseSubject(serial).kind === 'serial';
    } catch {
      return false;
    }
  };
  fc.assert(
    fc.property(serials, (serial) => {
      const object = { apiVersion: 'postern.dev/v1', kind: 'Revocation', metadata: { name: 'r' }, spec: { serial } };
      expect(validateObject(object).length === 0).toBe(reads(serial));
    }),
    { numRuns: 1_000 },
  );
});
