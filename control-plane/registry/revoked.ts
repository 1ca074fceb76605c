import { asObject, asString, field } from '../../policy/json.ts';
import type { Manifest } from '../../policy/types.ts';
import { parseSubject } from '../ca/revocation.ts';
import { memoized } from './objects.ts';

/** What is not trusted any more, as sidecars are told. */
export interface RevokedSubjects {
  readonly spiffeIds: readonly string[];
  /** Upper-case hexadecimal without leading zeros. */
  readonly serials: readonly string[];
}

/** What a `Revocation` object names. */
export const revokedSubject = memoized(({ object }) => {
  const spec = asObject(field(object, 'spec'));
  return parseSubject(asString(field(spec, 'spiffeId')) ?? asString(field(spec, 'serial')) ?? '');
});

/** What the `Revocation` objects among the manifests say. Issuing certificates and accepting them must heed it as well. */
export function revokedByManifests(manifests: readonly Manifest[]): RevokedSubjects {
  const subjects = manifests.filter(({ kind }) => kind === 'Revocation').map(revokedSubject);
  const of = (wanted: string) => subjects.filter(({ kind }) => kind === wanted).map(({ value }) => value);
  return { spiffeIds: of('spiffeId'), serials: of('serial') };
}

/** Both together, in one order whatever theirs. */
export function unitedSubjects(a: RevokedSubjects, b: RevokedSubjects): RevokedSubjects {
  return {
    spiffeIds: [...new Set([...a.spiffeIds, ...b.spiffeIds])].sort(),
    serials: [...new Set([...a.serials, ...b.serials])].sort(),
  };
}
