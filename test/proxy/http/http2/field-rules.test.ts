import { describe, expect, test } from 'vitest';
import { type OwnFields, readFields } from '../../../../proxy/http/http2/field-rules.ts';
import type { HeaderField } from '../../../../proxy/protocol/hpack/header-list.ts';

const own = (): OwnFields => ({ contentLength: null, host: null, lines: [], bytes: 0 });

function read(field: HeaderField, isRequest: boolean): { readonly fault: string | null; readonly own: OwnFields } {
  const taken = own();
  return { fault: readFields([field], 0, taken, isRequest), own: taken };
}

describe('a field that was seen before', () => {
  test('is a line again, and counts again', () => {
    const field: HeaderField = ['x-a', '1'];
    for (let i = 0; i < 3; i++) {
      expect(read(field, true)).toEqual({ fault: null, own: { ...own(), lines: [field], bytes: 4 } });
    }
  });

  test('is host in a request though it was nothing to a response', () => {
    const field: HeaderField = ['host', 'a'];
    expect(read(field, false).own.lines).toEqual([field]);
    expect(read(field, true).own).toMatchObject({ host: 'a', lines: [] });
    expect(readFields([field, field], 0, own(), true)).toBe('more than one host');
  });

  test('is content-length each time', () => {
    const field: HeaderField = ['content-length', '7'];
    for (let i = 0; i < 2; i++) expect(read(field, true).own).toMatchObject({ contentLength: 7, lines: [] });
    expect(readFields([field, field], 0, own(), true)).toBe('more than one content-length');
  });

  // Of the same lengths and the same last character as a good one: what a memo takes for the same must be the same.
  test.each<HeaderField>([
    ['x-a', 'a\0c'],
    ['X-a', 'abc'],
    ['x\0a', 'abc'],
    ['x-a', ' bc'],
    [':-a', 'abc'],
  ])('does not make another one good: %j', (name, value) => {
    expect(read(['x-a', 'abc'], true).fault).toBeNull();
    expect(read([name, value], true).fault).not.toBeNull();
    // Nor does a bad one become good by coming again.
    expect(read([name, value], true).fault).not.toBeNull();
  });
});

describe('a content-length', () => {
  test.each([
    ['0', 0],
    ['007', 7],
    ['999999999999999', 999_999_999_999_999],
  ])('%j is read', (text, length) => {
    expect(read(['content-length', text], true).own.contentLength).toBe(length);
  });

  test.each(['', '+1', '-1', '1 ', '1,1', '0x1', '1e3', '１', '1000000000000000'])('%j is refused', (text) => {
    expect(read(['content-length', text], true).fault).not.toBeNull();
  });
});
