import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { StoredAuthority } from './authority-contents.ts';
import type { AuthorityState, GenerationState, RotationPhase } from './authority-state.ts';
import { type Generation, intermediateEnd, type Lifetimes } from './generation.ts';

/** The steps of a rotation as they change state and keys, wherever those are stored. Pure; `stored` itself is never changed. */

/** @throws PosternError ERR_CA_ROTATION unless the rotation is at this step */
export function expectPhase({ rotation }: AuthorityState, phase: RotationPhase): void {
  if (rotation === phase) return;
  const message = `the rotation of the root is at step "${rotation}", not "${phase}": see postern ca show`;
  throw new PosternError('ERR_CA_ROTATION', message, { exitCode: EXIT.temporary });
}

/** The CA with its first root. */
export function firstAuthority(trustDomain: string, first: Generation): StoredAuthority {
  return { state: { version: 1, trustDomain, rotation: 'none', generations: [unused(first)] }, generations: [first] };
}

export function begun({ state, generations }: StoredAuthority, next: Generation): StoredAuthority {
  expectPhase(state, 'none');
  return {
    state: { ...state, rotation: 'begun', generations: [...state.generations, unused(next)] },
    generations: [...generations, next],
  };
}

/** `leavesExpireBy`: end of the last leaf of the root that issues until now, Unix time in milliseconds. */
export function activated({ state, generations }: StoredAuthority, leavesExpireBy: number): StoredAuthority {
  expectPhase(state, 'begun');
  const [old, next] = state.generations;
  const [oldGeneration, nextGeneration] = generations;
  if (old === undefined || next === undefined || oldGeneration === undefined || nextGeneration === undefined) {
    throw withoutRoot();
  }
  return {
    state: { ...state, rotation: 'activated', generations: [next, { ...old, leavesExpireBy }] },
    generations: [nextGeneration, oldGeneration],
  };
}

/** @throws PosternError ERR_CA_ROTATION also while a leaf of the old root may be valid */
export function finished({ state, generations }: StoredAuthority, now: number): StoredAuthority {
  expectPhase(state, 'activated');
  const end = state.generations[1]?.leavesExpireBy ?? Number.POSITIVE_INFINITY;
  if (now <= end) {
    const message = `the old root is still needed: the last certificate under it ends at ${isoTime(end)}`;
    throw new PosternError('ERR_CA_ROTATION', message, { exitCode: EXIT.temporary });
  }
  return {
    state: { ...state, rotation: 'none', generations: state.generations.slice(0, 1) },
    generations: generations.slice(0, 1),
  };
}

/** The issuing root with another intermediate. */
export function withIntermediate(
  { state, generations }: StoredAuthority,
  intermediate: Generation['intermediate'],
): StoredAuthority {
  const [issuing, ...others] = state.generations;
  const [generation, ...otherGenerations] = generations;
  if (issuing === undefined || generation === undefined) throw withoutRoot();
  return {
    state: { ...state, generations: [{ ...issuing, intermediate: intermediate.number }, ...others] },
    generations: [{ ...generation, intermediate }, ...otherGenerations],
  };
}

/** Whether a new intermediate is due: in the last third of its life, and never so late that leaves would have to be cut short. */
export function isIntermediateDue(
  { root, intermediate }: Generation,
  now: number,
  { lifetimes, maxTtlSeconds }: { readonly lifetimes: Lifetimes; readonly maxTtlSeconds: number },
): boolean {
  const { notBefore, notAfter } = intermediate.certificate;
  const reserve = Math.max((notAfter - notBefore) / 3, 2 * maxTtlSeconds * 1000);
  if (notAfter - now > reserve) return false;
  // At the end of the root's life, or with a lifetime under the reserve, a renewal gains next to nothing: not one for each leaf.
  return intermediateEnd(root, now, lifetimes) - notAfter >= lifetimes.intermediateSeconds * 100;
}

/** @throws PosternError ERR_CA_EXPIRED where a root is not valid now. `remedy`: what to do where it has ended and the clock is right. */
export function checkRootsValid(
  generations: readonly Generation[],
  now: number,
  { location, remedy }: { readonly location: string; readonly remedy: string },
): void {
  for (const { root } of generations) {
    const { notBefore, notAfter } = root.certificate;
    if (now > notAfter) {
      const message =
        `the root certificate in ${location} expired at ${isoTime(notAfter)} and every identity with it: ` +
        `check the clock; if it is right, ${remedy}`;
      throw new PosternError('ERR_CA_EXPIRED', message, { exitCode: EXIT.dataError });
    }
    if (now < notBefore) {
      const message =
        `the clock says ${isoTime(now)}, but the root certificate in ${location} ` +
        `begins only at ${isoTime(notBefore)}: set the clock`;
      throw new PosternError('ERR_CA_EXPIRED', message, { exitCode: EXIT.config });
    }
  }
}

export const isoTime = (unixMs: number): string => new Date(unixMs).toISOString();

export const withoutRoot = (): PosternError =>
  new PosternError('ERR_CA_DAMAGED', 'the certificate authority has no root', { exitCode: EXIT.software });

const unused = ({ id, intermediate }: Generation): GenerationState => ({
  id,
  intermediate: intermediate.number,
  leavesExpireBy: 0,
});
