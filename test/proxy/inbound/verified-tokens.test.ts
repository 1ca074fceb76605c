import { describe, expect, test, vi } from 'vitest';
import { FAULTS } from '../../../policy/jwt/faults.ts';
import type { KeySet } from '../../../policy/jwt/key-set.ts';
import { VerifiedTokens } from '../../../proxy/inbound/verified-tokens.ts';
import { CLAIMS, keySetOf, segment, signer, token } from '../../policy/jwt/forge.ts';

const KEY = signer();
const LIMITS = { entries: 10, bytes: 1024 * 1024, failures: 4 };

/** Counts what is really verified. */
function counted(keys: KeySet = keySetOf(KEY)): {
  readonly keys: KeySet;
  readonly verify: ReturnType<typeof vi.spyOn>;
} {
  return { keys, verify: vi.spyOn(keys, 'signerOf') };
}

/** As the acceptance of a request does. */
function check(tokens: VerifiedTokens, text: string, keys: KeySet): string | null {
  const read = tokens.read(text);
  const fault = 'claims' in (read as object) ? tokens.signatureFault(text, keys) : String(read);
  tokens.release();
  return fault;
}

const numbered = (number: number): string => token(KEY, { ...CLAIMS, jti: `t${number}` });

describe('the memory of verified tokens', () => {
  test('verifies a token once', () => {
    const { keys, verify } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const text = token(KEY);
    expect([check(tokens, text, keys), check(tokens, text, keys), check(tokens, text, keys)]).toEqual([
      null,
      null,
      null,
    ]);
    expect(verify).toHaveBeenCalledTimes(1);
  });

  test('gives the same claims again', () => {
    const { keys } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const text = token(KEY);
    check(tokens, text, keys);
    expect(tokens.read(text)).toMatchObject({ claims: CLAIMS });
  });

  test('knows a token by all of its characters', () => {
    const { keys } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const text = token(KEY);
    check(tokens, text, keys);
    const [header, , signature] = text.split('.');
    expect(check(tokens, `${header}.${segment({ ...CLAIMS, sub: 'root' })}.${signature}`, keys)).toBe(FAULTS.signature);
  });

  test('holds for the keys that verified it alone', () => {
    const { keys } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const text = token(KEY);
    check(tokens, text, keys);
    expect(check(tokens, text, keySetOf(signer()))).toBe(FAULTS.signature);
    expect(check(tokens, text, keys)).toBeNull();
  });

  test('is bounded in entries, and keeps what is in use', () => {
    const { keys, verify } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const used = numbered(0);
    for (let number = 1; number < 100; number++) {
      check(tokens, numbered(number), keys);
      check(tokens, used, keys);
      expect(tokens.size).toBeLessThanOrEqual(LIMITS.entries);
    }
    expect(verify).toHaveBeenCalledTimes(100);
  });

  test('is bounded in bytes', () => {
    const { keys } = counted();
    const tokens = new VerifiedTokens({ ...LIMITS, entries: 1000, bytes: 64 * 1024 });
    for (let number = 0; number < 40; number++)
      check(tokens, token(KEY, { ...CLAIMS, number, x: 'x'.repeat(6000) }), keys);
    // Each costs more than 12,000 bytes.
    expect(tokens.size).toBeLessThanOrEqual(5);
    expect(tokens.size).toBeGreaterThan(1);
  });

  test('is not changed by tokens that fail', () => {
    const { keys, verify } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const good = token(KEY);
    const forger = signer();
    check(tokens, good, keys);
    for (let number = 0; number < 200; number++) check(tokens, token(forger, { ...CLAIMS, number }), keys);
    expect(tokens.size).toBe(1);
    verify.mockClear();
    expect(check(tokens, good, keys)).toBeNull();
    expect(verify).not.toHaveBeenCalled();
  });

  test('remembers a token that failed, among few', () => {
    const { keys, verify } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const forged = token(signer());
    for (let round = 0; round < 5; round++) expect(check(tokens, forged, keys)).toBe(FAULTS.signature);
    expect(verify).toHaveBeenCalledTimes(1);
    const forger = signer();
    for (let number = 0; number < 4; number++) check(tokens, token(forger, { ...CLAIMS, number }), keys);
    verify.mockClear();
    expect(check(tokens, forged, keys)).toBe(FAULTS.signature);
    expect(verify).toHaveBeenCalledTimes(1);
  });

  test('remembers a failure for the keys that it failed with alone', () => {
    const { keys } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const text = token(KEY);
    expect(check(tokens, text, keySetOf(signer()))).toBe(FAULTS.signature);
    expect(check(tokens, text, keys)).toBeNull();
  });

  test('is emptied when rules or keys change', () => {
    const { keys, verify } = counted();
    const tokens = new VerifiedTokens(LIMITS);
    const text = token(KEY);
    const forged = token(signer());
    for (const one of [text, forged]) check(tokens, one, keys);
    tokens.clear(true);
    expect(tokens.size).toBe(0);
    for (const one of [text, forged]) check(tokens, one, keys);
    expect(verify).toHaveBeenCalledTimes(4);
  });

  test('keeps the payload where some rule passes it on', () => {
    const { keys } = counted();
    const text = token(KEY);
    for (const keep of [true, false]) {
      const tokens = new VerifiedTokens(LIMITS);
      tokens.clear(keep);
      check(tokens, text, keys);
      expect(tokens.read(text)).toMatchObject({ payload: keep ? segment(CLAIMS) : '' });
    }
  });
});
