import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inject } from '../../../kubernetes/injection/inject.ts';
import { diff, jsonPatch } from '../../../kubernetes/injection/json-patch.ts';
import { INJECTED } from '../../../kubernetes/injection/types.ts';
import { asObject, isList } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { applyPatch } from './apply-patch.ts';
import { at, CONTEXT, run, SETTINGS } from './support.ts';

const port = fc.oneof(
  fc.constantFrom<JsonValue>('http', 'grpc', '8080', 15_021, 9_999),
  fc.integer({ min: 1, max: 14_999 }),
);
const handler = fc.oneof(
  fc.record({
    httpGet: fc.record(
      {
        port,
        path: fc.constantFrom('/', '/ready?$(POD_NAME)$$', 'no-slash', '/with blank'),
        scheme: fc.constantFrom('HTTP', 'HTTPS'),
        host: fc.constantFrom('', 'other.example'),
        httpHeaders: fc.array(
          fc.record({ name: fc.constantFrom('Host', 'x-a'), value: fc.constantFrom('a', 'é', '$(X)') }),
          {
            maxLength: 3,
          },
        ),
      },
      { requiredKeys: ['port'] },
    ),
  }),
  fc.record({ tcpSocket: fc.record({ port }) }),
  fc.record({ grpc: fc.record({ port, service: fc.constantFrom('', 'shop.Orders') }) }),
  fc.record({ exec: fc.constant<JsonValue>({ command: ['true'] }) }),
);
const probe = fc
  .tuple(
    handler,
    fc.record({ timeoutSeconds: fc.integer({ min: 0, max: 5000 }), periodSeconds: fc.nat() }, { requiredKeys: [] }),
  )
  .map(([how, timing]) => ({ ...how, ...timing }) as JsonObject);

const part = fc.record(
  {
    image: fc.constant('x'),
    ports: fc.constant<JsonValue>([
      { name: 'http', containerPort: 8080 },
      { name: 'grpc', containerPort: 9000, protocol: 'TCP' },
    ]),
    readinessProbe: probe,
    livenessProbe: probe,
    startupProbe: probe,
    securityContext: fc.constantFrom<JsonValue>({}, { runAsUser: 1000 }, { privileged: true }),
  },
  { requiredKeys: [] },
);
const containers = (prefix: string, min: number) =>
  fc
    .array(part, { minLength: min, maxLength: 3 })
    .map((list) => list.map((item, index) => ({ name: `${prefix}${index}`, ...item })));

const pod = fc
  .record({
    metadata: fc.record(
      {
        labels: fc.dictionary(fc.constantFrom('app', 'version', 'postern.dev/workload'), fc.constantFrom('a', 'b')),
        annotations: fc.dictionary(
          fc.constantFrom('postern.dev/native-sidecar', 'postern.dev/rewrite-probes', 'prometheus.io/scrape', 'x'),
          fc.constantFrom('true', 'false'),
        ),
      },
      { requiredKeys: [] },
    ),
    spec: fc.record(
      {
        containers: containers('app', 1),
        initContainers: containers('init', 0),
        volumes: fc.constantFrom<JsonValue>([], [{ name: 'v', emptyDir: {} }]),
        shareProcessNamespace: fc.boolean(),
      },
      { requiredKeys: ['containers'] },
    ),
  })
  .map((made) => made as unknown as JsonObject);

function injectedOf(given: JsonObject, settings = SETTINGS): JsonObject {
  const result = inject(given, CONTEXT, settings);
  if (result.outcome !== 'injected') throw new Error(JSON.stringify(result));
  return result.pod;
}

test('injecting twice is injecting once', () => {
  fc.assert(
    fc.property(pod, fc.boolean(), (given, nativeSidecar) => {
      const settings = { ...SETTINGS, nativeSidecar };
      const once = injectedOf(given, settings);
      expect(injectedOf(once, settings)).toEqual(once);
    }),
  );
});

test('it is the same again where others have put things around ours meanwhile', () => {
  const shuffle = (list: JsonValue | undefined, seed: number): JsonValue =>
    isList(list) ? list.toSorted((a, b) => (hash(a, seed) < hash(b, seed) ? -1 : 1)) : [];
  const hash = (value: JsonValue, seed: number): number =>
    [...String(at(value, 'name'))].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0) * (seed + 1)) % 9973, seed);
  fc.assert(
    fc.property(pod, fc.nat(1000), (given, seed) => {
      const once = injectedOf(given);
      const spec = asObject(at(once, 'spec')) ?? {};
      const ours = [INJECTED.initContainer, INJECTED.sidecar] as readonly JsonValue[];
      // The order of others among themselves is theirs to choose: ours are put among them anywhere.
      const initContainers = isList(spec.initContainers) ? spec.initContainers : [];
      const mine = initContainers.filter((item) => ours.includes(at(item, 'name') ?? null));
      const theirs = initContainers.filter((item) => !mine.includes(item));
      const cut = theirs.length === 0 ? 0 : seed % (theirs.length + 1);
      const moved = [...theirs.slice(0, cut), ...mine.toReversed(), ...theirs.slice(cut)];
      const volumes = shuffle(spec.volumes, 0);
      const again = injectedOf({ ...once, spec: { ...spec, initContainers: moved, volumes } });
      expect({ ...again, spec: { ...asObject(at(again, 'spec')), volumes: null } }).toEqual({
        ...once,
        spec: { ...spec, volumes: null },
      });
    }),
  );
});

test('the patch makes the injected pod of the pod', () => {
  fc.assert(
    fc.property(pod, (given) => {
      const now = injectedOf(given);
      expect(applyPatch(given, jsonPatch(diff(given, now)))).toEqual(now);
    }),
  );
});

test('of the containers of the author nothing but probes is touched', () => {
  const bare = (value: JsonValue): JsonValue => {
    const { readinessProbe: _r, livenessProbe: _l, startupProbe: _s, ...rest } = asObject(value) ?? {};
    return rest;
  };
  fc.assert(
    fc.property(pod, (given) => {
      const now = injectedOf(given);
      for (const list of ['initContainers', 'containers']) {
        const before = at(given, 'spec', list);
        const after = at(now, 'spec', list);
        const theirs = (isList(after) ? after : []).filter((item) => !String(at(item, 'name')).startsWith('postern-'));
        expect(theirs.map(bare)).toEqual((isList(before) ? before : []).map(bare));
      }
    }),
  );
});

test('a probe keeps everything but how it asks', () => {
  fc.assert(
    fc.property(pod, (given) => {
      const before = at(given, 'spec', 'containers');
      const now = injectedOf(given);
      for (const original of isList(before) ? before : []) {
        const after = (at(now, 'spec', 'containers') as readonly JsonValue[]).find(
          (item) => at(item, 'name') === at(original, 'name'),
        );
        for (const key of ['readinessProbe', 'livenessProbe', 'startupProbe']) {
          const { httpGet: _h, tcpSocket: _t, grpc: _g, ...timing } = asObject(at(original, key)) ?? {};
          const { httpGet: _i, tcpSocket: _u, grpc: _k, ...kept } = asObject(at(after, key)) ?? {};
          expect(kept).toEqual(timing);
        }
      }
    }),
  );
});

test('whatever is given, the injector answers and does not throw', () => {
  const odd = fc.letrec<{ value: JsonValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 6 },
      fc.constantFrom<JsonValue>(null, true, 1337, -1, 'x', 'enabled', '$(', '__proto__', {}, []),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(
        fc.constantFrom(
          ...['metadata', 'spec', 'annotations', 'labels', 'containers', 'initContainers', 'volumes', 'name', 'env'],
          ...['ports', 'containerPort', 'readinessProbe', 'httpGet', 'port', 'path', 'securityContext', 'lifecycle'],
          ...['postern.dev/status', 'postern.dev/inject', '__proto__', 'constructor', 'value', 'capabilities', 'add'],
        ),
        tie('value'),
        { maxKeys: 5 },
      ),
    ),
  })).value;
  fc.assert(
    fc.property(odd, odd, (metadata, spec) => {
      expect(['injected', 'skipped', 'refused']).toContain(run({ metadata, spec }).outcome);
    }),
    { numRuns: 2_000 },
  );
});
