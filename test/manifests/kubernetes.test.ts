import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { Evaluator } from '../../cli/authz/evaluate.ts';
import { components, everythingInstallable, renderInstallation } from '../../cli/install/manifests.ts';
import { loadManifests } from '../../cli/manifest-files.ts';
import { parseControlPlaneConfig } from '../../control-plane/config.ts';
import { selectPod } from '../../kubernetes/injection/selection.ts';
import { identityOf } from '../../kubernetes/install/identity.ts';
import { renderKustomizations } from '../../kubernetes/install/kustomization.ts';
import { settingsIn } from '../../kubernetes/install/settings.ts';
import { meshSettings } from '../../policy/index.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { Findings } from '../../policy/validate/findings.ts';
import { ROOT } from '../repository/source-tree.ts';
import { at, objectsAt, textAt, textsAt } from '../support/kubernetes/objects.ts';
import { alerts, dashboard } from './telemetry-manifests.ts';

const SHOP = join(ROOT, 'manifests', 'kubernetes', 'samples', 'shop');
const ALL = everythingInstallable();
const only = (objects: readonly JsonObject[], kind: string, name?: string): JsonObject => {
  const found = objects.filter((object) => {
    const identity = identityOf(object);
    return identity.kind === kind && (name === undefined || identity.name === name);
  });
  expect(found).toHaveLength(1);
  return found[0] ?? {};
};

/** As API servers match labels (KEP of matchExpressions). */
function matches(selector: JsonValue | undefined, labels: { readonly [key: string]: string }): boolean {
  return objectsAt(selector as JsonObject, 'matchExpressions').every((expression) => {
    const value = labels[textAt(expression, 'key')];
    const listed = value !== undefined && textsAt(expression, 'values').includes(value);
    const operator = textAt(expression, 'operator');
    if (operator === 'In') return listed;
    if (operator === 'NotIn') return !listed;
    expect(['Exists', 'DoesNotExist']).toContain(operator);
    return operator === 'Exists' ? value !== undefined : value === undefined;
  });
}

const WORDS = [undefined, 'enabled', 'disabled'] as const;
const ISTIO_WORDS = [undefined, 'true', 'false'] as const;
const labelsOf = (labels: { readonly [key: string]: string | undefined }): { readonly [key: string]: string } =>
  Object.fromEntries(Object.entries(labels).filter((entry): entry is [string, string] => entry[1] !== undefined));

describe('webhooks of injection', () => {
  test.each([
    { understandIstioLabels: false, chosen: [] },
    { understandIstioLabels: true, chosen: ['istio-labels'] },
  ])('hear of exactly those pods that are selected by labels ($chosen)', ({ understandIstioLabels, chosen }) => {
    const installed = renderInstallation({ overlay: 'single', components: chosen, settings: [] });
    const webhooks = objectsAt(only(installed, 'MutatingWebhookConfiguration'), 'webhooks');
    for (const own of WORDS) {
      for (const istio of understandIstioLabels ? WORDS : [undefined]) {
        for (const word of WORDS) {
          for (const istioWord of understandIstioLabels ? ISTIO_WORDS : [undefined]) {
            const namespace = labelsOf({ 'postern.dev/inject': own, 'istio-injection': istio });
            const pod = labelsOf({ 'postern.dev/inject': word, 'sidecar.istio.io/inject': istioWord });
            const named = { ...namespace, 'kubernetes.io/metadata.name': 'shop' };
            const called = webhooks.filter(
              (webhook) => matches(webhook.namespaceSelector, named) && matches(webhook.objectSelector, pod),
            );
            const settings = { understandIstioLabels };
            const { inject } = selectPod({ metadata: { labels: pod } }, namespace, settings, new Findings());
            // Whoever is called may still decline; nobody is called twice.
            expect(called.length, JSON.stringify({ namespace, pod })).toBeLessThanOrEqual(1);
            if (inject) expect(called, JSON.stringify({ namespace, pod })).toHaveLength(1);
          }
        }
      }
    }
  });

  test.each(['kube-system', 'kube-public', 'kube-node-lease', 'postern-system'])('are never asked about %s', (name) => {
    const webhooks = objectsAt(only(ALL, 'MutatingWebhookConfiguration'), 'webhooks');
    for (const word of ['enabled', 'disabled']) {
      const labels = { 'kubernetes.io/metadata.name': name, 'postern.dev/inject': word, 'istio-injection': 'enabled' };
      expect(webhooks.filter((webhook) => matches(webhook.namespaceSelector, labels))).toEqual([]);
    }
  });

  test('fail closed, and hold no caBundle of their own', () => {
    for (const kind of ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']) {
      for (const webhook of objectsAt(only(ALL, kind), 'webhooks')) {
        expect(webhook).toMatchObject({ failurePolicy: 'Fail', sideEffects: 'None' });
        expect(at(webhook, 'clientConfig', 'caBundle')).toBeUndefined();
      }
    }
  });
});

describe('the control plane', () => {
  const deployment = only(ALL, 'Deployment');
  const pod = at(deployment, 'spec', 'template', 'spec') as JsonObject;
  const [container = {}] = objectsAt(pod, 'containers');

  test('may run where pod security is restricted, which its namespace demands', () => {
    expect(at(only(ALL, 'Namespace'), 'metadata', 'labels')).toMatchObject({
      'pod-security.kubernetes.io/enforce': 'restricted',
    });
    expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(objectsAt(pod, 'volumes').map(({ name }) => name)).toEqual(['config', 'data']);
  });

  test('listens where its services, its probes and its NetworkPolicy say', () => {
    const config = parseControlPlaneConfig(settingsIn(ALL), '/etc/postern/control-plane.yaml');
    const ports = new Map(objectsAt(container, 'ports').map((port) => [port.name, port.containerPort]));
    expect(Object.fromEntries(ports)).toEqual({
      'https-sidecars': config.listen.port,
      'http-metrics': config.adminListen.port,
      'https-webhooks': config.kubernetes?.webhookListen?.port,
    });
    const services = objectsAt(only(ALL, 'Service'), 'spec', 'ports');
    expect(services.map(({ port, targetPort }) => [port, ports.get(targetPort ?? '')])).toEqual([
      [15012, 15012],
      [443, 15017],
      [15014, 15014],
    ]);
    const open = objectsAt(only(ALL, 'NetworkPolicy'), 'spec', 'ingress').flatMap((rule) => objectsAt(rule, 'ports'));
    expect(open.map(({ port }) => port).sort()).toEqual([...ports.values()].sort());
    expect(config.kubernetes?.injection.controlPlaneAddress).toBe(
      'https://postern-control-plane.postern-system.svc:15012',
    );
  });

  test('keeps its data in a directory of its own below a volume, not in the volume, which everybody may write', () => {
    const { dataDir } = parseControlPlaneConfig(settingsIn(ALL), '/etc/postern/control-plane.yaml');
    const mounts = objectsAt(container, 'volumeMounts').map(({ mountPath }) => `${String(mountPath)}/`);
    expect(mounts.some((mount) => dataDir.startsWith(mount))).toBe(true);
  });

  test('runs the image that its sidecars run, also where another is asked for', () => {
    const objects = renderInstallation({ overlay: 'ha', components: [], image: 'example/p:2', settings: [] });
    const containers = objectsAt(only(objects, 'Deployment'), 'spec', 'template', 'spec', 'containers');
    expect(containers.map(({ image }) => image)).toEqual(['example/p:2']);
    expect(parseControlPlaneConfig(settingsIn(objects), 'x').kubernetes?.injection.image).toBe('example/p:2');
  });

  test.each(components())('with the component %s has settings that fit it', (component) => {
    const objects = renderInstallation({ overlay: 'single', components: [component], settings: [] });
    const { kubernetes } = parseControlPlaneConfig(settingsIn(objects), 'x');
    const [rule] = objectsAt(only(objects, 'Role', 'postern-control-plane-ca'), 'rules').filter(
      (one) => one.resourceNames,
    );
    expect(textsAt(rule ?? {}, 'resourceNames')).toEqual([kubernetes?.ca.secret]);
    const webhooks = objectsAt(only(objects, 'MutatingWebhookConfiguration'), 'webhooks').map((one) =>
      textAt(one, 'name'),
    );
    expect(webhooks.some((name) => name.startsWith('istio-'))).toBe(kubernetes?.injection.understandIstioLabels);
  });
});

describe('settings of an installation', () => {
  const rendered = (...settings: readonly string[]) =>
    settingsIn(renderInstallation({ overlay: 'single', components: [], settings }));

  test('are changed in place, with their comments', () => {
    const text = rendered('trustDomain=example.org', 'kubernetes.injection.resources.requests={cpu: 50m}');
    expect(text).toMatch(/^# Mesh-wide settings/);
    const config = parseControlPlaneConfig(text, 'x');
    expect(config.trustDomain).toBe('example.org');
    expect(config.kubernetes?.injection.resources.requests.cpu).toBe('50m');
  });

  test.each([
    ['no value', 'trustDomain', /not of the form/],
    ['an unknown key', 'trustDomian=a', /unknown setting "trustDomian"/],
    ['a value of another kind', 'logLevel=loud', /logLevel must be one of/],
    ['a way through a value', 'trustDomain.a=b', /no section|must be/],
    ['no YAML', 'trustDomain={', /no plain YAML/],
  ])('are refused where they have %s', (_, setting, message) => {
    expect(() => rendered(setting)).toThrow(message);
  });
});

describe('telemetry of a cluster', () => {
  test('has the alerts and the dashboard of manifests/telemetry', () => {
    const rules = objectsAt(only(ALL, 'PrometheusRule'), 'spec', 'groups').flatMap((group) =>
      objectsAt(group, 'rules'),
    );
    expect(rules).toEqual(alerts());
    const text = textAt(only(ALL, 'ConfigMap', 'postern-grafana-dashboard'), 'data', 'postern.json');
    expect(JSON.parse(text)).toEqual(dashboard());
  });

  test('is scraped by ports that exist', () => {
    const monitor = only(ALL, 'ServiceMonitor');
    const names = objectsAt(only(ALL, 'Service'), 'spec', 'ports').map(({ name }) => name);
    expect(names).toContain(objectsAt(monitor, 'spec', 'endpoints')[0]?.port);
    expect(at(only(ALL, 'Service'), 'metadata', 'labels')).toMatchObject(
      at(monitor, 'spec', 'selector', 'matchLabels') as JsonObject,
    );
  });
});

describe('samples', () => {
  const path = (name: string): string => join(SHOP, `${name}.yaml`);
  const applied = renderKustomizations([SHOP]);
  const policies = readdirSync(SHOP)
    .filter((name) => name.endsWith('.yaml') && !['applications.yaml', 'kustomization.yaml'].includes(name))
    .map((name) => name.slice(0, -5));

  test('are applied whole by their kustomization, into an enabled namespace', () => {
    const kinds = new Set(applied.map(({ kind }) => kind));
    expect([...kinds]).toEqual(
      expect.arrayContaining(['Deployment', 'Service', 'AuthorizationPolicy', 'RequestAuthentication']),
    );
    expect(at(only(applied, 'Namespace'), 'metadata', 'labels')).toEqual({ 'postern.dev/inject': 'enabled' });
    expect(applied.filter((object) => identityOf(object).kind === 'AuthorizationPolicy')).toHaveLength(5);
  });

  test.each(policies)('%s is admissible without a warning', (name) => {
    expect(loadManifests([path(name)]).problems).toEqual([]);
  });

  /** The answer of the sidecar's engine to one request for orders. */
  function decide(files: readonly string[], caller: string, method: string, target: string, jwt?: JsonObject): string {
    const { manifests } = loadManifests(files.map(path));
    const mesh = meshSettings({ spec: {} }, 'cluster.local');
    const evaluator = new Evaluator(
      manifests.map(({ object }) => object),
      mesh,
      false,
    );
    const line = {
      id: 1,
      workload: { namespace: 'shop', serviceAccount: 'orders', labels: { app: 'orders' } },
      connection: {
        protocol: 'http',
        sourcePrincipal: `cluster.local/ns/shop/sa/${caller}`,
        sourceIp: '10.1.0.5',
        destinationIp: '10.1.0.9',
        destinationPort: 8080,
        sni: '',
      },
      request: { method, path: target, host: 'orders', headers: {} },
      ...(jwt === undefined ? {} : { jwt }),
    };
    const answer = evaluator.answer(JSON.stringify(line), 1);
    return 'decision' in answer ? answer.decision : answer.error;
  }

  const DENY = ['deny-by-default'];
  const PATHS = [...DENY, 'per-path'];
  const USERS = [...DENY, 'per-user'];
  const ada = { iss: 'https://users.example', sub: 'ada', aud: ['shop'], groups: ['accounting'] };
  test.each<[readonly string[], string, string, string, JsonObject | undefined, 'allow' | 'deny']>([
    [DENY, 'frontend', 'GET', '/', undefined, 'allow'],
    [DENY, 'reports', 'GET', '/', undefined, 'deny'],
    [PATHS, 'reports', 'GET', '/orders/42', undefined, 'allow'],
    [PATHS, 'reports', 'POST', '/orders/42', undefined, 'deny'],
    [PATHS, 'frontend', 'GET', '/admin/users', undefined, 'deny'],
    [PATHS, 'frontend', 'GET', '/orders/../admin/users', undefined, 'deny'],
    [USERS, 'reports', 'GET', '/invoices', ada, 'allow'],
    [USERS, 'reports', 'GET', '/invoices', { ...ada, sub: 'bob', groups: ['sales'] }, 'deny'],
    [USERS, 'reports', 'GET', '/invoices', undefined, 'deny'],
    [[...PATHS, 'per-user'], 'frontend', 'GET', '/', undefined, 'allow'],
    [[...PATHS, 'per-user'], 'frontend', 'GET', '/admin', undefined, 'deny'],
  ])('%j: what is said of %s, %s %s, is so', (files, caller, method, target, jwt, expected) => {
    expect(decide(files, caller, method, target, jwt)).toBe(expected);
  });

  test('the tokens of per-user are of the key that is written there, and last', async () => {
    const text = readFileSync(path('per-user'), 'utf8');
    const { subtle } = globalThis.crypto;
    const [authentication] = parseAllDocuments(text).map((document) => document.toJS() as JsonObject);
    const [rule] = objectsAt(authentication ?? {}, 'spec', 'jwtRules');
    const [jwk] = (parse(textAt(rule ?? {}, 'jwks')) as { keys: { readonly kty: string }[] }).keys;
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
    const key = await subtle.importKey('jwk', jwk ?? { kty: '' }, algorithm, false, ['verify']);
    const tokens = [...text.matchAll(/^# {3}(?:ADA|BOB)=(\S+)$/gm)].map(([, token = '']) => token.split('.'));
    expect(tokens).toHaveLength(2);
    for (const [head = '', body = '', signature = ''] of tokens) {
      const signed = Buffer.from(`${head}.${body}`);
      expect(await subtle.verify(algorithm, key, Buffer.from(signature, 'base64url'), signed)).toBe(true);
      const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as { exp: number; iss: string };
      expect(claims).toMatchObject({ iss: rule?.issuer, exp: expect.any(Number) });
      expect(claims.exp * 1000).toBeGreaterThan(Date.parse('2090-01-01'));
    }
  });
});
