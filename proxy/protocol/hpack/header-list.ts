/** A field: name in lower case, value with one byte a character. */
export type HeaderField = readonly [name: string, value: string];
export type HeaderList = readonly HeaderField[];

/** Never put into a table, here or at a later hop (RFC 7541, 7.1.3): their values could be guessed by watching sizes. */
export const SENSITIVE: ReadonlySet<string> = new Set(['authorization', 'proxy-authorization', 'cookie', 'set-cookie']);
/** Different in every message: not worth looking for. */
export const VARYING: ReadonlySet<string> = new Set(['x-request-id', 'traceparent']);

/** Places of a memo of fields: more than a usual message has different ones. */
export const MEMO_SLOTS = 64;

/** The place of a field in a memo: the same for the same name and value, and mostly another for others. */
export function memoSlot(name: string, value: string): number {
  const { length } = value;
  const last = length === 0 ? 0 : value.charCodeAt(length - 1);
  return (name.length * 5 + length * 3 + last) % MEMO_SLOTS;
}

/** What a field counts beside its bytes (RFC 7541, 4.1; RFC 9113, 6.5.2). */
export const FIELD_OVERHEAD = 32;

/** SETTINGS_HEADER_TABLE_SIZE of both sides: the default, and the most that a peer makes us keep. Bytes. */
export const TABLE_SIZE = 4096;
