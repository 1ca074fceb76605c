import { describe, expect, test } from 'vitest';
import { compileAuthentication, type JsonObject } from '../../policy/index.ts';
import { MESH, ORDERS, peerAuthentication, policy } from './objects.ts';

const mtls = (mode: string): JsonObject => ({ mtls: { mode } });
const orders = { selector: { matchLabels: { app: 'orders' } } };
const root = { namespace: 'istio-system' };

function mode(objects: readonly JsonObject[], port = 80): string {
  return compileAuthentication(objects, ORDERS, MESH).mode(port);
}

describe('levels of PeerAuthentication (2)', () => {
  test.each<[string, readonly JsonObject[], string]>([
    ['without any, PERMISSIVE', [], 'PERMISSIVE'],
    ['the mesh', [peerAuthentication(mtls('STRICT'), root)], 'STRICT'],
    ['the mesh UNSET is PERMISSIVE', [peerAuthentication(mtls('UNSET'), root)], 'PERMISSIVE'],
    [
      'the namespace over the mesh',
      [peerAuthentication(mtls('STRICT'), root), peerAuthentication(mtls('DISABLE'))],
      'DISABLE',
    ],
    [
      'the namespace UNSET inherits',
      [peerAuthentication(mtls('STRICT'), root), peerAuthentication(mtls('UNSET'))],
      'STRICT',
    ],
    [
      'the namespace without mtls inherits',
      [peerAuthentication(mtls('STRICT'), root), peerAuthentication({})],
      'STRICT',
    ],
    [
      'the workload over the namespace',
      [peerAuthentication(mtls('STRICT')), peerAuthentication({ ...orders, ...mtls('DISABLE') }, { name: 'o' })],
      'DISABLE',
    ],
    [
      'the workload UNSET inherits',
      [peerAuthentication(mtls('STRICT')), peerAuthentication({ ...orders, mtls: {} }, { name: 'o' })],
      'STRICT',
    ],
    [
      'another workload is not concerned',
      [peerAuthentication({ selector: { matchLabels: { app: 'x' } }, ...mtls('STRICT') })],
      'PERMISSIVE',
    ],
    ['another namespace is not concerned', [peerAuthentication(mtls('STRICT'), { namespace: 'pay' })], 'PERMISSIVE'],
    [
      'a selector in the root namespace is ignored',
      [peerAuthentication({ ...orders, ...mtls('STRICT') }, root)],
      'PERMISSIVE',
    ],
    ['an empty selector is none', [peerAuthentication({ selector: {}, ...mtls('STRICT') }, root)], 'STRICT'],
    ['other kinds are not concerned', [{ ...policy(mtls('STRICT')) }], 'PERMISSIVE'],
  ])('%s', (_, objects, expected) => {
    expect(mode(objects)).toBe(expected);
    expect(mode(objects.toReversed())).toBe(expected);
  });
});

describe('of several policies of one level one counts', () => {
  test.each<[string, readonly JsonObject[]]>([
    [
      'the oldest',
      [
        peerAuthentication(mtls('DISABLE'), { name: 'a', created: '2026-02-01T00:00:00Z' }),
        peerAuthentication(mtls('STRICT'), { name: 'b', created: '2026-01-31T23:59:59Z' }),
      ],
    ],
    [
      'of one age the first by name',
      [
        peerAuthentication(mtls('DISABLE'), { name: 'b', created: '2026-02-01T00:00:00Z' }),
        peerAuthentication(mtls('STRICT'), { name: 'a', created: '2026-02-01T01:00:00+01:00' }),
      ],
    ],
    [
      'without an age the first by name',
      [peerAuthentication(mtls('DISABLE'), { name: 'b' }), peerAuthentication(mtls('STRICT'), { name: 'a' })],
    ],
    [
      'the oldest even where it says nothing: the mesh decides then',
      [
        peerAuthentication(mtls('STRICT'), root),
        peerAuthentication(mtls('DISABLE'), { name: 'a', created: '2026-02-01T00:00:00Z' }),
        peerAuthentication(mtls('UNSET'), { name: 'b', created: '2026-01-01T00:00:00Z' }),
      ],
    ],
  ])('%s', (_, objects) => {
    expect(mode(objects)).toBe('STRICT');
    expect(mode(objects.toReversed())).toBe('STRICT');
  });
});

describe('ports', () => {
  const ports = {
    portLevelMtls: { 8080: { mode: 'DISABLE' }, 9090: { mode: 'UNSET' }, 7070: {}, 443: { mode: 'PERMISSIVE' } },
  };

  test('a port has its own mode, or inherits the effective one of the workload', () => {
    const compiled = compileAuthentication(
      [peerAuthentication(mtls('STRICT'), root), peerAuthentication({ ...orders, ...ports }, { name: 'o' })],
      ORDERS,
      MESH,
    );
    expect([8080, 9090, 7070, 443, 1].map((port) => compiled.mode(port))).toEqual([
      'DISABLE',
      'STRICT',
      'STRICT',
      'PERMISSIVE',
      'STRICT',
    ]);
    expect(compiled.ports).toEqual([443, 8080]);
  });

  test('ports of a policy that does not count do not count', () => {
    const objects = [
      peerAuthentication({ ...orders, ...mtls('STRICT') }, { name: 'a' }),
      peerAuthentication({ ...orders, ...ports }, { name: 'b' }),
    ];
    expect(mode(objects, 8080)).toBe('STRICT');
  });

  test('ports without a selector do not count', () => {
    expect(mode([peerAuthentication(ports)], 8080)).toBe('PERMISSIVE');
  });
});
