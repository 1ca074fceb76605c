import { describe, expect, it } from 'vitest';
import { announced, moved, pruned, rootsInOrder } from '../../../../control-plane/kubernetes/ca/external-trust.ts';
import {
  readTrustState,
  type TrustedRoot,
  type TrustState,
  writeTrustState,
} from '../../../../control-plane/kubernetes/ca/trust-state.ts';
import { readCertificate } from '../../../../mesh/x509/certificate.ts';
import { foreignCa } from './foreign-ca.ts';

const root = (name: string, trustedUntil: number | null = null): TrustedRoot => ({
  pem: name,
  fingerprint: name,
  trustedUntil,
});
const stateOf = (issuing: string, roots: readonly TrustedRoot[]): TrustState => ({
  version: 1,
  trustDomain: 'cluster.local',
  issuing,
  maxTtlSeconds: 60,
  roots,
});
const offer = (name: string) => ({ pem: name, fingerprint: name });
const settings = { trustDomain: 'cluster.local', maxTtlSeconds: 60 };

describe('the roots of an external CA', () => {
  const both = stateOf('a', [root('a'), root('b')]);

  it.each<[string, TrustState, TrustState]>([
    ['a first root issues at once', announced(null, offer('a'), settings), stateOf('a', [root('a')])],
    ['a new one is trusted and does not issue', announced(stateOf('a', [root('a')]), offer('b'), settings), both],
    ['a known one changes nothing', announced(both, offer('b'), settings), both],
    [
      'one that was going and comes back stays',
      announced(stateOf('a', [root('a'), root('b', 5)]), offer('b'), settings),
      both,
    ],
    [
      'a longer life of leaves is written down, a shorter one is not',
      announced(announced(both, offer('b'), { ...settings, maxTtlSeconds: 90 }), offer('b'), settings),
      { ...both, maxTtlSeconds: 90 },
    ],
    ['a move gives the old one its time', moved(both, 'b', 9), stateOf('b', [root('a', 9), root('b')])],
    [
      'a move leaves the time of those that were going already',
      moved(stateOf('a', [root('a'), root('b'), root('c', 5)]), 'b', 9),
      stateOf('b', [root('a', 9), root('b'), root('c', 5)]),
    ],
    ['a second move to the same changes nothing', moved(both, 'a', 9), both],
    [
      'one whose time is over is dropped, to the millisecond',
      pruned(stateOf('a', [root('a'), root('c', 5), root('d', 6)]), { now: 5, offered: 'a', trustedUntil: 9 }),
      stateOf('a', [root('a'), root('d', 6)]),
    ],
    [
      'one that was announced and is offered no more is given its time',
      pruned(both, { now: 5, offered: 'a', trustedUntil: 9 }),
      stateOf('a', [root('a'), root('b', 9)]),
    ],
    [
      'the one that issues and the one that is to are never dropped',
      pruned(stateOf('a', [root('a', 1), root('b', 1)]), { now: 5, offered: 'b', trustedUntil: 9 }),
      stateOf('a', [root('a', 1), root('b', 1)]),
    ],
  ])('%s', (_, got, wanted) => {
    expect(got).toEqual(wanted);
  });

  it('come in the order issuing, next, going', () => {
    const state = stateOf('b', [root('c', 5), root('a', 9), root('b')]);
    expect(rootsInOrder(state, offer('d'), 'b')).toEqual(['b', 'd', 'c', 'a']);
    expect(rootsInOrder(null, offer('d'), 'd')).toEqual(['d']);
  });
});

describe('the state that replicas share', () => {
  const { pem } = foreignCa(null);
  const { fingerprint } = readCertificate(pem);
  const state = stateOf(fingerprint, [{ pem, fingerprint, trustedUntil: null }]);
  const read = (data: object, trustDomain = 'cluster.local') =>
    readTrustState(JSON.parse(JSON.stringify({ data })), trustDomain, 'ConfigMap x/y');

  it('is read as it was written', () => {
    expect(read(writeTrustState(state))).toEqual(state);
  });

  it.each<[string, object]>([
    ['is empty', {}],
    ['is not JSON', { 'state.json': '{' }],
    ['is of another version', { 'state.json': JSON.stringify({ ...state, version: 2 }) }],
    ['names a root that it does not hold', { 'state.json': JSON.stringify({ ...state, issuing: 'other' }) }],
    [
      'holds what is no certificate',
      { 'state.json': JSON.stringify({ ...state, roots: [{ pem: 'x', trustedUntil: null }] }) },
    ],
    ['has a time that is none', { 'state.json': JSON.stringify({ ...state, roots: [{ pem, trustedUntil: '5' }] }) }],
    ['has a lifetime of nothing', { 'state.json': JSON.stringify({ ...state, maxTtlSeconds: 0 }) }],
    [
      'has too many roots',
      { 'state.json': JSON.stringify({ ...state, roots: Array(17).fill({ pem, trustedUntil: null }) }) },
    ],
  ])('is refused where it %s', (_, data) => {
    expect(() => read(data)).toThrow(expect.objectContaining({ code: 'ERR_CA_DAMAGED' }));
  });

  it('is refused where it is of another trust domain', () => {
    expect(() => read(writeTrustState(state), 'other.example')).toThrow(
      expect.objectContaining({ code: 'ERR_CA_TRUST_DOMAIN' }),
    );
  });
});
