import { describe, expect, it } from 'vitest';
import { parseServerMessage } from '../../../proxy/control/server-message.ts';

const delta = (fields: object): string =>
  JSON.stringify({ type: 'delta', version: 'v1', full: true, upserts: [], removes: [], ...fields });
const POLICY = { kind: 'AuthorizationPolicy', name: 'shop/a', object: {} };

describe('a line of the stream', () => {
  it('is a delta, a heartbeat, a goodbye or something newer', () => {
    expect(parseServerMessage(delta({ upserts: [POLICY] }))).toEqual({
      type: 'delta',
      delta: { version: 'v1', full: true, upserts: [POLICY], removes: [], unreadable: [] },
    });
    expect(parseServerMessage('{"type":"heartbeat"}')).toEqual({ type: 'heartbeat' });
    expect(parseServerMessage('{"type":"goodbye","reason":"bye","renew":true}')).toEqual({
      type: 'goodbye',
      reason: 'bye',
      renew: true,
    });
    expect(parseServerMessage('{"type":"later"}')).toEqual({ type: 'unknown', name: 'later' });
  });

  it.each([
    ['an unknown kind', { kind: 'Telemetry', name: 'shop/t' }],
    ['a kind that every object has', { kind: 'constructor', name: 'shop/t' }],
    ['a bundle without roots', { kind: 'TrustBundle', name: 'roots' }],
    ['a second bundle', { kind: 'TrustBundle', name: 'more', roots: [] }],
    ['a policy without object', { kind: 'AuthorizationPolicy', name: 'shop/a' }],
    ['keys that are no text', { kind: 'Jwks', name: 'https://i/k', jwks: {} }],
    ['a RequestAuthentication without object', { kind: 'RequestAuthentication', name: 'shop/a' }],
    ['revocations of the wrong type', { kind: 'Revocations', name: 'revoked', spiffeIds: 'x', serials: [] }],
    ['labels that are no texts', { kind: 'Self', name: 'self', labels: { a: 1 }, ended: false }],
    ['a self that does not say whether it has ended', { kind: 'Self', name: 'self', labels: {} }],
    ['another self', { kind: 'Self', name: 'other', labels: {}, ended: false }],
    ['a workload without addresses', { kind: 'Workload', name: 'shop/w' }],
  ])('sets %s aside and keeps the rest', (_, resource) => {
    const message = parseServerMessage(delta({ upserts: [resource, POLICY] }));
    expect(message).toMatchObject({
      delta: { upserts: [POLICY], unreadable: [{ key: `${resource.kind}/${resource.name}` }] },
    });
  });

  it('has the keys of an issuer, known or not', () => {
    const upserts = [null, '{"keys":[]}'].map((jwks) => ({ kind: 'Jwks', name: 'https://i/k', jwks }));
    expect(parseServerMessage(delta({ upserts }))).toMatchObject({ delta: { upserts, unreadable: [] } });
  });

  it.each([
    ['no JSON', '{'],
    ['no map', '[]'],
    ['no type', '{}'],
    ['a delta without version', delta({ version: '' })],
    ['a delta with an endless version', delta({ version: 'v'.repeat(257) })],
    ['a delta that does not say whether it is full', delta({ full: 'yes' })],
    ['a resource without name', delta({ upserts: [{ kind: 'Workload' }] })],
    ['removes that are no keys', delta({ removes: [1] })],
  ])('with %s ends the stream', (_, line) => {
    expect(() => parseServerMessage(line)).toThrow(expect.objectContaining({ code: 'ERR_PUSH_PROTOCOL' }));
  });
});
