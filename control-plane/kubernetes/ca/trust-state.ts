import { EXIT, messageOf, PosternError } from '../../../mesh/errors.ts';
import { isTrustDomain } from '../../../mesh/spiffe-id.ts';
import { readCertificate } from '../../../mesh/x509/certificate.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { objectOf } from '../../ca/json.ts';
import { configMapData } from './object-data.ts';
import type { SharedAuthority } from './secret-contents.ts';

/**
 * ConfigMap `postern-ca-state`, written by the leader: which roots the mesh trusts, and until when. With a CA in a Secret it only says that there has
 * been one, so that a control plane that finds no Secret makes no other; with an external CA it is how replicas agree on which root issues.
 */
export interface TrustState {
  readonly version: 1;
  readonly trustDomain: string;
  /** SHA-256 fingerprint of the root that issues. */
  readonly issuing: string;
  /** Longest lifetime, seconds, that a leaf of the issuing root may have been given by any replica. */
  readonly maxTtlSeconds: number;
  readonly roots: readonly TrustedRoot[];
}

export interface TrustedRoot {
  readonly pem: string;
  readonly fingerprint: string;
  /** Unix time, milliseconds, at which its last leaf is over; null for the root that issues, and for one that is to. */
  readonly trustedUntil: number | null;
}

export const STATE_CONFIG_MAP = 'postern-ca-state';

const KEY = 'state.json';
const MAX_ROOTS = 16;
const MAX_CHARACTERS = 512 * 1024;

/** @throws PosternError ERR_CA_DAMAGED, ERR_CA_TRUST_DOMAIN */
export function readTrustState(object: JsonObject, trustDomain: string, where: string): TrustState {
  const text = configMapData(object, where).get(KEY) ?? '';
  let state: TrustState;
  try {
    if (text.length > MAX_CHARACTERS) throw new Error('too large');
    state = parse(JSON.parse(text));
  } catch (error) {
    const message = `${where}, ${KEY}, is damaged (${messageOf(error)}): restore it from a backup, or delete it where no certificate of an old root is in use`;
    throw new PosternError('ERR_CA_DAMAGED', message, { cause: error, exitCode: EXIT.dataError });
  }
  if (state.trustDomain === trustDomain) return state;
  const message = `${where} is of trust domain ${state.trustDomain}, but the configuration says ${trustDomain}: set trustDomain to ${state.trustDomain}, or use another namespace`;
  throw new PosternError('ERR_CA_TRUST_DOMAIN', message, { exitCode: EXIT.config });
}

export function writeTrustState(state: TrustState): { readonly [key: string]: string } {
  const roots = state.roots.map(({ pem, trustedUntil }) => ({ pem, trustedUntil }));
  return { [KEY]: `${JSON.stringify({ ...state, roots }, null, 1)}\n` };
}

/** As a CA in a Secret has it. */
export function trustStateOf({ state, generations, maxTtlSeconds }: SharedAuthority): TrustState {
  const roots = generations.map(({ root }, index) => ({
    pem: root.pem,
    fingerprint: root.certificate.fingerprint,
    trustedUntil: index === 1 && state.rotation === 'activated' ? (state.generations[1]?.leavesExpireBy ?? null) : null,
  }));
  return { version: 1, trustDomain: state.trustDomain, issuing: roots[0]?.fingerprint ?? '', maxTtlSeconds, roots };
}

function parse(value: unknown): TrustState {
  const { version, trustDomain, issuing, maxTtlSeconds, roots } = objectOf(value);
  if (version !== 1) throw new Error('"version" must be 1');
  if (typeof trustDomain !== 'string' || !isTrustDomain(trustDomain)) throw new Error('"trustDomain" is none');
  if (typeof issuing !== 'string') throw new Error('"issuing" names no root');
  if (!isWhole(maxTtlSeconds) || maxTtlSeconds < 1) throw new Error('"maxTtlSeconds" must be a number of seconds');
  if (!Array.isArray(roots) || roots.length > MAX_ROOTS)
    throw new Error(`"roots" must be a list of at most ${MAX_ROOTS}`);
  const parsed = roots.map(parseRoot);
  if (!parsed.some(({ fingerprint }) => fingerprint === issuing))
    throw new Error('the root that issues is not among "roots"');
  return { version, trustDomain, issuing, maxTtlSeconds, roots: parsed };
}

function parseRoot(value: unknown): TrustedRoot {
  const { pem, trustedUntil } = objectOf(value);
  if (typeof pem !== 'string') throw new Error('a root without certificate');
  if (trustedUntil !== null && !isWhole(trustedUntil)) throw new Error('"trustedUntil" must be a time in milliseconds');
  return { pem, fingerprint: readCertificate(pem).fingerprint, trustedUntil };
}

const isWhole = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value);
