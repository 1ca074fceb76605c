import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCsr, readCsr } from '../../../mesh/x509/csr.ts';
import { decodePem, encodePem } from '../../../mesh/x509/pem.ts';
import { newKeys } from '../../control-plane/ca/support.ts';

const SPIFFE_ID = 'spiffe://cluster.local/ns/shop/sa/orders';
const LABEL = 'CERTIFICATE REQUEST';
const keys = newKeys();
const good = createCsr({ ...keys, spiffeId: SPIFFE_ID });
const [der = Buffer.alloc(0)] = decodePem(good, LABEL, { bytes: 65_536, blocks: 1 });

const otherKey = (kind: 'rsa' | 'p384' | 'explicit'): string => {
  const pair = {
    rsa: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
    p384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    explicit: () => generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }),
  }[kind]();
  return createCsr({ ...pair, spiffeId: SPIFFE_ID });
};

describe('readCsr', () => {
  it('gives the key of the request and nothing of what it asks for', () => {
    const csr = readCsr(good);
    expect(csr.publicKey.equals(keys.publicKey)).toBe(true);
    expect(csr.publicKeyHash).toMatch(/^[0-9a-f]{64}$/);
    expect(Object.keys(csr).sort()).toEqual(['publicKey', 'publicKeyHash']);
  });

  it('takes CRLF', () => {
    expect(readCsr(good.replaceAll('\n', '\r\n')).publicKey.equals(keys.publicKey)).toBe(true);
  });

  it.each([
    ['nothing', ''],
    ['no PEM', 'hello'],
    ['two requests', good + good],
    ['a comment beside the block', `x\n${good}`],
    ['another label', good.replaceAll(LABEL, 'CERTIFICATE')],
    ['more than 16 KB', good.replace('\n', `\n${'\n'.repeat(16_384)}`)],
    ['bytes after the request', encodePem(LABEL, Buffer.concat([der, Buffer.of(0)]))],
    ['half a request', encodePem(LABEL, der.subarray(0, der.length / 2))],
    ['indefinite lengths', encodePem(LABEL, Buffer.concat([Buffer.of(0x30, 0x80), der.subarray(4), Buffer.of(0, 0)]))],
    ['deep nesting', encodePem(LABEL, nested(2_000))],
    ['an RSA key', otherKey('rsa')],
    ['a P-384 key', otherKey('p384')],
    ['a P-256 key that spells its curve out', otherKey('explicit')],
    ['a signature by another key', createCsr({ ...newKeys(), publicKey: keys.publicKey, spiffeId: SPIFFE_ID })],
  ])('refuses %s', (_, pem) => {
    expect(() => readCsr(pem)).toThrow(expect.objectContaining({ code: 'ERR_BAD_CSR' }));
  });

  it('refuses a request with any bit of it changed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: der.length * 8 - 1 }), (bit) => {
        const changed = Buffer.from(der);
        const index = bit >> 3;
        changed[index] = (changed[index] ?? 0) ^ (1 << (bit & 7));
        expect(() => readCsr(encodePem(LABEL, changed))).toThrow(expect.objectContaining({ code: 'ERR_BAD_CSR' }));
      }),
      { numRuns: 300 },
    );
  });

  it('throws nothing but ERR_BAD_CSR whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 600 }), (bytes) => {
        expect(() => readCsr(encodePem(LABEL, bytes))).toThrow(expect.objectContaining({ code: 'ERR_BAD_CSR' }));
      }),
      { numRuns: 300 },
    );
  });
});

function nested(depth: number): Buffer {
  let bytes = Buffer.of(0x05, 0x00);
  for (let level = 0; level < depth; level++) {
    const length = bytes.length;
    const header = length < 128 ? [0x30, length] : [0x30, 0x82, length >> 8, length & 0xff];
    bytes = Buffer.concat([Buffer.from(header), bytes]);
  }
  return bytes;
}
