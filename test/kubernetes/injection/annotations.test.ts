import { describe, expect, test } from 'vitest';
import { ANNOTATIONS, PREFIX } from '../../../kubernetes/injection/annotations.ts';
import { readSettings } from '../../../mesh/config/reader.ts';
import type { JsonValue } from '../../../policy/types.ts';
import { type ProxyConfig, readProxy } from '../../../proxy/config.ts';
import {
  annotated,
  at,
  container,
  errorsOf,
  expanded,
  injected,
  podOf,
  run,
  settingsText,
  sidecarSettingsOf,
  VARIABLES,
} from './support.ts';

/** What the sidecar itself makes of its settings, strictly. */
function sidecarReads(pod: ReturnType<typeof injected>): ProxyConfig {
  return readSettings(expanded(settingsText(pod), VARIABLES), 'env:POSTERN_CONFIG', (root) =>
    readProxy(root, 'env:POSTERN_CONFIG'),
  );
}

type Case = readonly [name: string, good: readonly string[], bad: readonly string[]];
const CASES: readonly Case[] = [
  ['include-inbound-ports', ['*', '80', '80,8000-8999', ' 80 , 81'], ['', '0', '80,', '70000', '9-8', 'http', '80;81']],
  ['exclude-inbound-ports', ['80', '1-65535'], ['', '*', '-1', '80,,81', '80 81', '$(POD_IPS)', '--validate']],
  ['include-inbound-cidrs', ['*', '10.0.0.0/8', '::/0'], ['10.0.0.1/8', '10.0.0/8', 'x', '']],
  ['exclude-inbound-cidrs', ['10.1.2.3', 'fd00::/8,10.0.0.0/8'], ['10.0.0.0/33', 'fe80::1%eth0']],
  ['include-outbound-ports', ['443'], ['443,x']],
  ['exclude-outbound-ports', ['5432,6379'], ['5432.5']],
  ['include-outbound-cidrs', ['10.0.0.0/8'], ['10.0.0.0/8 10.1.0.0/16']],
  ['exclude-outbound-cidrs', ['169.254.169.254/32'], ['169.254.169.254/']],
  ['exclude-interfaces', ['net1', 'net1,eth1.5'], ['', 'a b', 'averyveryverylong', '..', 'net+']],
  ['log-level', ['trace', 'warn', 'silent'], ['', 'WARN', 'warning', 'loud']],
  ['access-log', ['on', 'off', 'denied'], ['true', '']],
  ['workers', ['1', '64'], ['0', '65', '1.5', '01', '1e1', 'two', '-1', '']],
  ['drain-timeout', ['0s', '30s', '1h'], ['30', '2h', '-1s', '30 s', '']],
  ['opaque-ports', ['3306', '3306, 6379', 'none'], ['', '0', '3306-3310', 'mysql', Array(1001).fill('80').join()]],
  ['request-timeout', ['0s', '250ms', '24h'], ['25h', 'none']],
  ['headers-timeout', ['100ms', '1h'], ['0s', '99ms', '2h']],
  ['stream-idle-timeout', ['0s', '24h'], ['25h']],
  ['keep-alive-timeout', ['100ms', '24h'], ['0s']],
  ['idle-timeout', ['10ms', '24h'], ['9ms', '0s']],
  ['connect-timeout', ['10ms', '24h'], ['0s']],
  ['max-connections', ['1', '1000000'], ['0', '1000001']],
  [
    'tracing-endpoint',
    ['http://otel.telemetry:4318', 'https://o.example/v'],
    ['otel:4318', 'http://u:p@o', 'ftp://o', ''],
  ],
  ['tracing-sampling', ['0', '0.01', '1'], ['1.1', '1%', '-0.1', '.5', 'NaN', '']],
  ['certificate-ttl', ['10s', '24h'], ['9s', '25h']],
  ['cpu-request', ['10m', '1', '0.5'], ['0', '-1', '1 core', '10Mi?', '1e3', '']],
  ['cpu-limit', ['100m', '2'], ['0m', 'x']],
  ['memory-request', ['64Mi', '100M', '123456789'], ['64mb', '100m', '0', '']],
  ['memory-limit', ['256Mi', '1Gi'], ['1G i', '-1Gi']],
  ['image', ['postern', 'r.example:5000/a/b:1@sha256:ab'], ['', 'a b', '-x', '$(X)', 'a\nb', `a${'b'.repeat(600)}`]],
  ['native-sidecar', ['true', 'false'], ['True', 'yes', '']],
  ['rewrite-probes', ['true', 'false'], ['0', '']],
];

/** Annotations that mean something only beside others. */
const BESIDE: { readonly [name: string]: { readonly [name: string]: string } } = {
  'tracing-sampling': { 'postern.dev/tracing-endpoint': 'http://otel:4318' },
  'cpu-request': { 'postern.dev/cpu-limit': '64' },
  'memory-request': { 'postern.dev/memory-limit': '64Gi' },
};

describe('each annotation', () => {
  test('is in the table of this test', () => {
    expect(CASES.map(([name]) => name)).toEqual(ANNOTATIONS.map(({ name }) => name));
  });

  const good = CASES.flatMap(([name, texts]) => texts.map((text) => [name, text] as const));
  test.each(good)('%s: %j is taken, by the sidecar as well', (name, text) => {
    const pod = injected(annotated({ ...BESIDE[name], [`${PREFIX}${name}`]: text }));
    expect(() => sidecarReads(pod)).not.toThrow();
  });

  const bad = CASES.flatMap(([name, , texts]) => texts.map((text) => [name, text] as const));
  test.each(bad)('%s: %j refuses the pod by its name', (name, text) => {
    const [error = '', ...others] = errorsOf(run(annotated({ ...BESIDE[name], [`${PREFIX}${name}`]: text })));
    expect(others).toEqual([]);
    expect(error).toMatch(
      new RegExp(`^metadata\\.annotations\\.${PREFIX}${name}: annotation ${PREFIX}${name}: .{10,400}$`, 's'),
    );
  });
});

describe('what annotations change', () => {
  test.each<[string, string, readonly (string | number)[], JsonValue]>([
    ['log-level', 'debug', ['logLevel'], 'debug'],
    ['access-log', 'denied', ['accessLog'], 'denied'],
    ['workers', '2', ['workers'], 2],
    ['drain-timeout', '5s', ['drainTimeoutMs'], 5_000],
    ['opaque-ports', '25, 26', ['opaquePorts'], [25, 26]],
    ['opaque-ports', 'none', ['opaquePorts'], []],
    ['request-timeout', '15s', ['http', 'requestTimeoutMs'], 15_000],
    ['headers-timeout', '3s', ['http', 'headersTimeoutMs'], 3_000],
    ['stream-idle-timeout', '1m', ['http', 'streamIdleTimeoutMs'], 60_000],
    ['keep-alive-timeout', '2m', ['http', 'keepAliveTimeoutMs'], 120_000],
    ['idle-timeout', '10m', ['limits', 'idleTimeoutMs'], 600_000],
    ['connect-timeout', '2s', ['limits', 'connectTimeoutMs'], 2_000],
    ['max-connections', '500', ['limits', 'maxConnections'], 500],
    ['tracing-endpoint', 'http://otel:4318/', ['tracing', 'endpoint'], 'http://otel:4318'],
    ['certificate-ttl', '1h', ['certificate', 'ttlMs'], 3_600_000],
  ])('%s %s is what the sidecar reads', (name, text, path, expected) => {
    const config = sidecarReads(injected(annotated({ [`${PREFIX}${name}`]: text })));
    expect(at(config as unknown as JsonValue, ...path)).toEqual(expected);
  });

  test('resources and image', () => {
    const pod = injected(
      annotated({
        'postern.dev/cpu-request': '50m',
        'postern.dev/cpu-limit': '1',
        'postern.dev/memory-limit': '512Mi',
        'postern.dev/image': 'other:2',
      }),
    );
    for (const name of ['postern-init', 'postern-proxy']) {
      expect(container(pod, name)).toMatchObject({
        image: 'other:2',
        resources: { requests: { cpu: '50m', memory: '64Mi' }, limits: { cpu: '1', memory: '512Mi' } },
      });
    }
  });

  test('native-sidecar: false makes an ordinary container that keeps outbound connections', () => {
    const pod = injected(annotated({ 'postern.dev/native-sidecar': 'false' }));
    expect(at(pod, 'spec', 'containers', 0, 'name')).toBe('postern-proxy');
    expect(sidecarReads(pod).drain.keepOutbound).toBe(true);
    expect(sidecarReads(injected(podOf())).drain.keepOutbound).toBe(false);
  });
});

test('a text that no command line would hold is refused', () => {
  const text = Array(8_000).fill('80').join();
  expect(errorsOf(run(annotated({ 'postern.dev/exclude-inbound-ports': text }))).join()).toContain('longer than 16384');
});

test('a request beyond its limit is refused', () => {
  expect(errorsOf(run(annotated({ 'postern.dev/memory-request': '1Gi' }))).join()).toContain(
    "the sidecar's memory request 1Gi exceeds its limit 256Mi",
  );
});

test('a sampling without an endpoint is refused', () => {
  expect(errorsOf(run(annotated({ 'postern.dev/tracing-sampling': '1' }))).join()).toContain('tracing-endpoint');
});

test('an unknown annotation of ours is warned of, with what was probably meant', () => {
  const { warnings } = run(
    annotated({ 'postern.dev/exclude-inbound-port': '80', 'postern.dev/zzz': '1', 'other.dev/x': '1' }),
  );
  expect(warnings.map(({ message }) => message)).toEqual([
    expect.stringContaining('did you mean postern.dev/exclude-inbound-ports?'),
    expect.stringContaining('postern inject --annotations'),
  ]);
});

describe("Istio's annotations", () => {
  const ISTIO = { 'traffic.sidecar.istio.io/excludeInboundPorts': '9000', 'sidecar.istio.io/proxyCPU': '70m' };

  test('mean nothing unless that is asked for', () => {
    expect(container(injected(annotated(ISTIO)), 'postern-init').command).toHaveLength(4);
  });

  test('mean what ours mean where it is', () => {
    const pod = injected(annotated(ISTIO), { understandIstioLabels: true });
    expect(container(pod, 'postern-init').command).toEqual(expect.arrayContaining(['--exclude-inbound-ports', '9000']));
    expect(at(container(pod, 'postern-proxy'), 'resources', 'requests', 'cpu')).toBe('70m');
  });

  test('give way to ours', () => {
    const pod = injected(annotated({ ...ISTIO, 'postern.dev/exclude-inbound-ports': '9001' }), {
      understandIstioLabels: true,
    });
    expect(container(pod, 'postern-init').command).toEqual(expect.arrayContaining(['--exclude-inbound-ports', '9001']));
  });

  test('with an empty list exclude nothing, and are refused where nothing would be included', () => {
    const settings = { understandIstioLabels: true };
    expect(run(annotated({ 'traffic.sidecar.istio.io/excludeInboundPorts': '' }), settings).outcome).toBe('injected');
    expect(errorsOf(run(annotated({ 'traffic.sidecar.istio.io/includeInboundPorts': '' }), settings)).join()).toContain(
      'annotation traffic.sidecar.istio.io/includeInboundPorts: ',
    );
  });
});

describe("the sidecar's settings", () => {
  test('hold what the kubelet fills in', () => {
    const config = sidecarReads(injected(podOf()));
    expect(config.workload).toMatchObject({
      name: 'orders-0',
      namespace: 'shop',
      serviceAccount: 'orders',
      addresses: ['10.1.2.3', 'fd00::3'],
    });
    expect(config.controlPlane).toMatchObject({
      caFile: '/var/run/postern/ca/root-cert.pem',
      serviceAccountTokenFile: '/var/run/secrets/postern/token',
    });
  });

  test('name variables that stand before them', () => {
    const env = container(injected(podOf()), 'postern-proxy').env as readonly { readonly name: string }[];
    expect(env.map(({ name }) => name)).toEqual([...Object.keys(VARIABLES), 'POSTERN_CONFIG']);
  });

  test.each(['$(POD_NAME)', '$$(POD_NAME)', '$$$', '$', '$((', '$()$$('])('pass %j on as it is', (text) => {
    const probe = { httpGet: { port: 80, path: `/x?${text}`, httpHeaders: [{ name: 'a', value: text }] } };
    const pod = injected(podOf({ spec: { containers: [{ name: 'app', livenessProbe: probe }] } }));
    expect(at(sidecarSettingsOf(pod), 'probes', 0, 'http')).toEqual({
      port: 80,
      path: `/x?${text}`,
      headers: [{ name: 'a', value: text }],
    });
  });

  test('that would not fit into an environment refuse the pod', () => {
    const headers = Array.from({ length: 40 }, (_, index) => ({ name: `x-${index}`, value: 'v'.repeat(4000) }));
    const probe = { httpGet: { port: 80, httpHeaders: headers } };
    const pod = podOf({ spec: { containers: [{ name: 'app', livenessProbe: probe }] } });
    expect(errorsOf(run(pod)).join()).toContain('larger than 98304 bytes');
  });
});
