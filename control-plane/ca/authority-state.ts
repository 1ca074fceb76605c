import { isTrustDomain } from '../../mesh/spiffe-id.ts';
import { objectOf } from './json.ts';

/**
 * `ca/state.json`: which of the files beside it are in force. Key and certificate files are never changed once written, and written before
 * the state names them; so replacing this one file is what makes each step happen, and a crash leaves either the step before or the step after.
 *
 * ALWAYS: `generations[0]` is the root whose intermediate issues now. There is a second one exactly while a rotation runs.
 */
export interface AuthorityState {
  readonly version: 1;
  readonly trustDomain: string;
  /** `begun`: the second root is the new one, trusted but not issuing. `activated`: the second is the old one, trusted until its leaves have expired. */
  readonly rotation: RotationPhase;
  readonly generations: readonly GenerationState[];
}

export type RotationPhase = 'none' | 'begun' | 'activated';

export interface GenerationState {
  /** Counts up from 1. */
  readonly id: number;
  /** Number of its intermediate in force; counts up from 1. */
  readonly intermediate: number;
  /** Unix time, milliseconds: no leaf of this root is valid after it. */
  readonly leavesExpireBy: number;
}

export const fileNames = {
  state: 'state.json',
  rootCertificate: (generation: number): string => `root-${generation}.pem`,
  rootKey: (generation: number): string => `root-${generation}.key`,
  intermediateCertificate: (generation: number, number: number): string => `intermediate-${generation}-${number}.pem`,
  intermediateKey: (generation: number, number: number): string => `intermediate-${generation}-${number}.key`,
} as const;

export const filesOf = (state: AuthorityState): Set<string> =>
  new Set([
    fileNames.state,
    ...state.generations.flatMap(({ id, intermediate }) => [
      fileNames.rootCertificate(id),
      fileNames.rootKey(id),
      fileNames.intermediateCertificate(id, intermediate),
      fileNames.intermediateKey(id, intermediate),
    ]),
  ]);

export const serializeState = (state: AuthorityState): string => `${JSON.stringify(state, null, 2)}\n`;

/** @throws Error that says what is wrong, for the caller to name the file. */
export function parseState(text: string): AuthorityState {
  const value: unknown = JSON.parse(text);
  const { version, trustDomain, rotation, generations } = objectOf(value);
  if (version !== 1)
    throw new Error(`"version" must be 1; it is ${JSON.stringify(version)}, of another Postern perhaps`);
  if (typeof trustDomain !== 'string' || !isTrustDomain(trustDomain))
    throw new Error('"trustDomain" is no trust domain');
  if (rotation !== 'none' && rotation !== 'begun' && rotation !== 'activated') {
    throw new Error('"rotation" must be none, begun or activated');
  }
  if (!Array.isArray(generations) || generations.length !== (rotation === 'none' ? 1 : 2)) {
    throw new Error('"generations" must hold one root, two during a rotation');
  }
  const parsed = generations.map(parseGeneration);
  if (new Set(parsed.map(({ id }) => id)).size !== parsed.length) throw new Error('"generations" holds one root twice');
  return { version, trustDomain, rotation, generations: parsed };
}

function parseGeneration(value: unknown): GenerationState {
  const { id, intermediate, leavesExpireBy } = objectOf(value);
  if (!isCount(id) || !isCount(intermediate)) throw new Error('"id" and "intermediate" must be numbers from 1');
  if (typeof leavesExpireBy !== 'number' || !Number.isSafeInteger(leavesExpireBy) || leavesExpireBy < 0) {
    throw new Error('"leavesExpireBy" must be a time in milliseconds');
  }
  return { id, intermediate, leavesExpireBy };
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 1;
