import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ensureRequestId, type RandomSource, uuidOf } from '../../../../proxy/http/forwarding/request-id.ts';
import { requestHead } from './heads.ts';

function counting(): RandomSource & { taken: number } {
  const bytes = Buffer.from(Array.from({ length: 64 }, (_, i) => i));
  return {
    bytes,
    taken: 0,
    take(length) {
      const at = this.taken;
      this.taken += length;
      return at;
    },
  };
}

test("the caller's request ID is kept, and no randomness is spent on it", () => {
  const head = requestHead('X-Request-Id: from-the-edge');
  const random = counting();
  expect(ensureRequestId(head, random)).toBe('from-the-edge');
  expect(head.all('x-request-id')).toEqual(['from-the-edge']);
  expect(random.taken).toBe(0);
});

test.each([[[]], [['x-request-id:']]])('one is made where there is none: %j', (lines) => {
  const head = requestHead(...lines);
  const id = ensureRequestId(head, counting());
  expect(id).toBe('00010203-0405-4607-8809-0a0b0c0d0e0f');
  expect(head.all('x-request-id')).toEqual([id]);
});

test('of any random bytes comes a version 4 UUID', () => {
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(bytes, (random) => {
      expect(uuidOf(Buffer.from(random), 0)).toMatch(
        /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      );
    }),
  );
});
