import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../policy/types.ts';
import { errorsOf, injected, podOf, run } from './support.ts';

const KEY = 'postern.dev/inject';
const ISTIO = 'sidecar.istio.io/inject';
type Words = { readonly [key: string]: string };

const pod = (labels: Words, annotations: Words = {}): JsonObject => podOf({ metadata: { labels, annotations } });
const outcome = (given: JsonObject, namespaceLabels: Words, understandIstioLabels = false): string =>
  run(given, { understandIstioLabels }, { namespaceLabels }).outcome;

describe('who gets a sidecar', () => {
  test.each<[namespace: Words, labels: Words, annotations: Words, expected: string]>([
    [{}, {}, {}, 'skipped'],
    [{ [KEY]: 'enabled' }, {}, {}, 'injected'],
    [{ [KEY]: 'disabled' }, {}, {}, 'skipped'],
    [{ [KEY]: 'true' }, {}, {}, 'skipped'],
    [{ [KEY]: 'enabled' }, { [KEY]: 'disabled' }, {}, 'skipped'],
    [{ [KEY]: 'enabled' }, {}, { [KEY]: 'disabled' }, 'skipped'],
    [{}, { [KEY]: 'enabled' }, {}, 'injected'],
    [{ [KEY]: 'disabled' }, {}, { [KEY]: 'enabled' }, 'injected'],
    [{}, { [KEY]: 'enabled' }, { [KEY]: 'enabled' }, 'injected'],
    [{ [KEY]: 'enabled' }, { [KEY]: 'enabled' }, { [KEY]: 'disabled' }, 'refused'],
    [{ [KEY]: 'enabled' }, { [KEY]: 'yes' }, {}, 'refused'],
    [{ 'istio-injection': 'enabled' }, {}, {}, 'skipped'],
    [{}, { [ISTIO]: 'true' }, {}, 'skipped'],
  ])('namespace %j, labels %j, annotations %j: %s', (namespace, labels, annotations, expected) => {
    expect(outcome(pod(labels, annotations), namespace)).toBe(expected);
  });

  test.each<[namespace: Words, labels: Words, annotations: Words, expected: string]>([
    [{ 'istio-injection': 'enabled' }, {}, {}, 'injected'],
    [{ 'istio-injection': 'disabled' }, {}, {}, 'skipped'],
    [{ 'istio-injection': 'enabled', [KEY]: 'disabled' }, {}, {}, 'skipped'],
    [{ 'istio-injection': 'enabled' }, { [ISTIO]: 'false' }, {}, 'skipped'],
    [{}, {}, { [ISTIO]: 'true' }, 'injected'],
    [{}, { [ISTIO]: 'true', [KEY]: 'disabled' }, {}, 'skipped'],
    [{}, { [ISTIO]: 'maybe' }, {}, 'refused'],
  ])(
    "with Istio's labels understood: namespace %j, labels %j, annotations %j: %s",
    (namespace, labels, annotations, expected) => {
      expect(outcome(pod(labels, annotations), namespace, true)).toBe(expected);
    },
  );

  test.each<[string, JsonObject, JsonObject, string]>([
    ['hostNetwork', {}, { hostNetwork: true }, 'spec.hostNetwork is true'],
    ['Windows', {}, { os: { name: 'windows' } }, 'spec.os.name is "windows"'],
    ['mirrors of static pods', { annotations: { 'kubernetes.io/config.mirror': 'x' } }, {}, 'static pod'],
  ])('%s: never, even where the pod asks for it', (_, metadata, spec, reason) => {
    const given = podOf({
      metadata: { labels: { [KEY]: 'enabled' }, ...metadata },
      spec: { containers: [{ name: 'app' }], ...spec },
    });
    const result = run(given);
    expect(result).toMatchObject({ outcome: 'skipped', reason: expect.stringContaining(reason) });
  });
});

describe('a pod with the sidecar of another mesh', () => {
  const foreign = (name: string, labels: Words = {}): JsonObject =>
    podOf({ metadata: { labels }, spec: { containers: [{ name: 'app' }, { name }] } });

  test.each(['istio-proxy', 'linkerd-proxy', 'kuma-sidecar', 'consul-dataplane'])('is left in it (%s)', (name) => {
    const result = run(foreign(name));
    expect(result.outcome).toBe('skipped');
    expect(result.warnings).toHaveLength(1);
  });

  test('is refused where it asks for ours itself', () => {
    expect(errorsOf(run(foreign('istio-proxy', { [KEY]: 'enabled' }))).join()).toContain(
      "switch off Istio's injection",
    );
  });

  test('is refused where it came after ours', () => {
    const once = injected(podOf());
    const spec = once.spec as { readonly initContainers: readonly JsonObject[] } & JsonObject;
    const both = { ...once, spec: { ...spec, initContainers: [...spec.initContainers, { name: 'istio-proxy' }] } };
    expect(errorsOf(run(both)).join()).toContain('a sidecar of Istio as well');
  });
});
