import { EXIT, messageOf, PosternError } from '../../../mesh/errors.ts';
import type { JsonObject } from '../../../policy/types.ts';
import {
  type AuthorityContents,
  filesOfGeneration,
  readAuthority,
  type StoredAuthority,
} from '../../ca/authority-contents.ts';
import { fileNames, serializeState } from '../../ca/authority-state.ts';
import { encodeSecretData, secretData } from './object-data.ts';

/** The CA as a Secret holds it. */
export interface SharedAuthority extends StoredAuthority {
  /**
   * Longest lifetime, seconds, that a leaf of the issuing root may have been given by any replica, whatever its settings say.
   *
   * ALWAYS: a replica gives no leaf a longer life than the Secret says, so an old root is kept for long enough when the setting is changed.
   */
  readonly maxTtlSeconds: number;
}

/** Beside the files of `authority-state.ts`. */
const MAX_TTL = 'max-ttl-seconds';
const MAX_FILE_CHARACTERS = 64 * 1024;

/**
 * Reads the Secret and checks that everything in it fits together.
 *
 * @throws PosternError ERR_CA_DAMAGED, ERR_CA_TRUST_DOMAIN; nothing of a key is in the message
 */
export function readSecret(object: JsonObject, trustDomain: string, where: string): SharedAuthority {
  const data = secretData(object, where);
  const locate = (name: string): string => `${where}, ${name},`;
  const damage = (name: string, fault: string): PosternError => {
    const remedy = `restore the Secret whole from a backup; or, while a control plane runs, delete it: the leader puts back the CA that it holds in memory`;
    return new PosternError('ERR_CA_DAMAGED', `${locate(name)} ${fault}: ${remedy}`, { exitCode: EXIT.dataError });
  };
  const contents: AuthorityContents = {
    parse: (name, parse) => {
      const text = data.get(name);
      if (text === undefined) throw damage(name, 'is missing');
      if (text.length > MAX_FILE_CHARACTERS) throw damage(name, 'is too large');
      try {
        return parse(text);
      } catch (error) {
        throw damage(name, `is damaged${name.endsWith('.key') ? '' : ` (${messageOf(error)})`}`);
      }
    },
    locate,
    damage,
    otherTrustDomain: 'install the control plane of another trust domain in a namespace of its own',
  };
  const maxTtlSeconds = contents.parse(MAX_TTL, parseSeconds);
  return { ...readAuthority(contents, trustDomain), maxTtlSeconds };
}

/** `data` of the Secret: exactly the files that the state names, so that keys of replaced roots are gone with the same write. */
export function writeSecret(authority: SharedAuthority): { readonly [key: string]: string } {
  return encodeSecretData(
    new Map([
      [fileNames.state, serializeState(authority.state)],
      [MAX_TTL, String(authority.maxTtlSeconds)],
      ...authority.generations.flatMap((generation) => [...filesOfGeneration(generation)]),
    ]),
  );
}

function parseSeconds(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error('not a number of seconds');
  return Number(text);
}
