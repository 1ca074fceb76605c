/** A field: name in lower case, value with one byte a character. */
export type HeaderField = readonly [name: string, value: string];
export type HeaderList = readonly HeaderField[];

/** What a field counts beside its bytes (RFC 7541, 4.1; RFC 9113, 6.5.2). */
export const FIELD_OVERHEAD = 32;

/** SETTINGS_HEADER_TABLE_SIZE of both sides: the default, and the most that a peer makes us keep. Bytes. */
export const TABLE_SIZE = 4096;
