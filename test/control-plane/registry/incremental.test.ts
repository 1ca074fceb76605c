import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ScopeCache } from '../../../control-plane/registry/scope.ts';
import { buildSnapshot, type Snapshot } from '../../../control-plane/registry/snapshot.ts';
import type { Manifest } from '../../../policy/types.ts';
import { endpointOf, manifestsOf, objectOf, podOf, SETTINGS, sliceOf } from './support.ts';

const security = (kind: string, name: string, namespace: string, spec: string) => (): readonly Manifest[] =>
  manifestsOf(
    `apiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: ${spec}\n`,
  );
const text = (kind: string, apiVersion: string, spec: string) => (): readonly Manifest[] =>
  manifestsOf(`apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: { name: s, namespace: shop }\nspec: ${spec}\n`);
const service = (spec: string) => text('Service', 'v1', spec);
const entry = (spec: string) => text('ServiceEntry', 'networking.istio.io/v1', spec);

/** Each place of the mesh holds one of these, or nothing. Made anew each time: what is remembered of an object must not show. */
const PLACES: readonly (readonly (() => readonly Manifest[])[])[] = [
  [
    service('{ clusterIP: 10.96.0.1, ports: [ { name: web, port: 80 } ] }'),
    service('{ clusterIP: 10.96.0.2, ports: [ { name: web, port: 81 } ] }'),
  ],
  [
    () => [sliceOf('x', { web: 8080 }, endpointOf('10.0.0.1', 'a'), endpointOf('192.0.2.1', null))],
    () => [sliceOf('x', { web: 9090 }, endpointOf('10.0.0.1', 'a', { ready: false }))],
  ],
  [
    () => [podOf('a', ['10.0.0.1'])],
    () => [podOf('a', ['10.0.0.1'], { labels: { app: 'b' } })],
    () => [podOf('a', ['10.0.0.9'], { annotations: {} })],
  ],
  [
    security('PeerAuthentication', 'd', 'shop', '{ mtls: { mode: DISABLE } }'),
    security('PeerAuthentication', 'd', 'shop', '{ mtls: { mode: STRICT } }'),
  ],
  [security('PeerAuthentication', 'm', 'istio-system', '{ mtls: { mode: DISABLE } }')],
  [
    security('AuthorizationPolicy', 'p', 'shop', '{ selector: { matchLabels: { app: a } } }'),
    security('AuthorizationPolicy', 'p', 'shop', '{ rules: [ {} ] }'),
  ],
  [
    entry(
      '{ hosts: [ e.com ], resolution: STATIC, addresses: [ 10.96.0.1 ], ports: [ { number: 80, name: http } ], endpoints: [ { address: 10.0.0.1 } ] }',
    ),
    entry('{ hosts: [ e.com ], resolution: NONE, addresses: [ 10.0.0.0/8 ], ports: [ { number: 80, name: http } ] }'),
  ],
  [() => [objectOf('postern.dev/v1', 'MeshConfig', 'default', 'mesh', { spec: { rootNamespace: 'shop' } })]],
];
/** What is there, place by place. */
const meshes = fc.tuple(...PLACES.map((choices) => fc.constantFrom(...choices, null)));

const content = (snapshot: Snapshot, standing: { readonly app: string }) => {
  const scope = new ScopeCache('e').scopeOf(snapshot, { namespace: 'shop', labels: standing, ended: false });
  return {
    resources: snapshot.resources,
    problems: snapshot.problems.map(({ message }) => message),
    version: scope.version,
  };
};

test('a snapshot made of the one before it is the same as one made of nothing, and keeps what is the same', () => {
  fc.assert(
    fc.property(fc.array(meshes, { minLength: 2, maxLength: 6 }), (steps) => {
      const kept = new Map<() => readonly Manifest[], readonly Manifest[]>();
      const keep = (make: () => readonly Manifest[]) => kept.get(make) ?? kept.set(make, make()).get(make) ?? [];
      let before: Snapshot | null = null;
      for (const step of steps) {
        const present = step.filter((make) => make !== null);
        const next: Snapshot = buildSnapshot({ ...SETTINGS, manifests: present.flatMap(keep) }, before);
        const fresh = buildSnapshot({ ...SETTINGS, manifests: present.flatMap((make) => make()) }, null);
        expect(content(next, { app: 'a' })).toEqual(content(fresh, { app: 'a' }));
        for (const [key, resource] of next.resources) {
          const earlier = before?.resources.get(key);
          if (JSON.stringify(earlier) === JSON.stringify(resource)) expect(resource).toBe(earlier);
        }
        before = next;
      }
    }),
    { numRuns: 150 },
  );
});
