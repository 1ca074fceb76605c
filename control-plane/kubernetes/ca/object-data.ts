import { EXIT, PosternError } from '../../../mesh/errors.ts';
import { asObject, field, isAbsent } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';

/** `data` of a Secret, decoded, by key. @throws PosternError ERR_CA_DAMAGED where it is not strings of base64 */
export function secretData(object: JsonObject, where: string): ReadonlyMap<string, string> {
  return new Map(
    entries(object, where).map(([key, text]) => {
      const bytes = Buffer.from(text, 'base64');
      // Buffer.from skips what is not base64; only what it writes back the same way was.
      if (bytes.toString('base64') !== text) throw damaged(where, `has a key ${quote(key)} that is not base64`);
      return [key, bytes.toString('utf8')];
    }),
  );
}

/** `data` of a ConfigMap, by key. @throws PosternError ERR_CA_DAMAGED */
export const configMapData = (object: JsonObject, where: string): ReadonlyMap<string, string> =>
  new Map(entries(object, where));

export function encodeSecretData(files: ReadonlyMap<string, string>): { readonly [key: string]: string } {
  return Object.fromEntries([...files].map(([name, text]) => [name, Buffer.from(text, 'utf8').toString('base64')]));
}

/** Whether the object's `data` is exactly this. */
export function sameData(object: JsonObject, data: { readonly [key: string]: string }): boolean {
  const sorted = (value: object): string => JSON.stringify(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  return sorted(asObject(field(object, 'data')) ?? {}) === sorted(data);
}

function entries(object: JsonObject, where: string): [string, string][] {
  const data = field(object, 'data');
  if (isAbsent(data)) return [];
  const map = asObject(data);
  if (map === null) throw damaged(where, 'has "data" that is not a map');
  return Object.entries(map).map(([key, value]) => {
    if (typeof value !== 'string') throw damaged(where, `has a key ${quote(key)} that is not a string`);
    return [key, value];
  });
}

const quote = (key: string): string => JSON.stringify(key.slice(0, 100));

const damaged = (where: string, fault: string): PosternError =>
  new PosternError('ERR_CA_DAMAGED', `${where} ${fault}: restore it from a backup`, { exitCode: EXIT.dataError });
