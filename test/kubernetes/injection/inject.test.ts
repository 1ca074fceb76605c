import { describe, expect, test } from 'vitest';
import { INJECTION_DEFAULTS } from '../../../kubernetes/injection/types.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { annotated, at, container, errorsOf, injected, podOf, podWith, run } from './support.ts';

const names = (list: unknown): unknown =>
  Array.isArray(list) ? list.map((item: { name?: unknown }) => item.name) : list;

describe('an injected pod', () => {
  test('redirects first, then starts the sidecar, then everything else', () => {
    const pod = injected(podOf({ spec: { containers: [{ name: 'app' }], initContainers: [{ name: 'migrate' }] } }));
    expect(names(at(pod, 'spec', 'initContainers'))).toEqual(['postern-init', 'postern-proxy', 'migrate']);
    expect(names(at(pod, 'spec', 'containers'))).toEqual(['app']);
    expect(at(container(pod, 'postern-proxy'), 'restartPolicy')).toBe('Always');
  });

  test('without native sidecars has the sidecar first of the containers, and redirection after other init containers', () => {
    const given = podOf({ spec: { containers: [{ name: 'app' }], initContainers: [{ name: 'migrate' }] } });
    const result = run(given, { nativeSidecar: false });
    const pod = result.outcome === 'injected' ? result.pod : {};
    expect(names(at(pod, 'spec', 'initContainers'))).toEqual(['migrate', 'postern-init']);
    expect(names(at(pod, 'spec', 'containers'))).toEqual(['postern-proxy', 'app']);
    expect(at(container(pod, 'postern-proxy'), 'restartPolicy')).toBeUndefined();
    expect(at(container(pod, 'postern-proxy'), 'lifecycle', 'postStart', 'exec', 'command', 1)).toBe('wait');
    expect(at(pod, 'metadata', 'annotations', 'kubectl.kubernetes.io/default-container')).toBe('app');
    expect(result.warnings.map(({ message }) => message)).toEqual([
      expect.stringContaining('init containers run before the redirection'),
    ]);
  });

  test('gives its init container two capabilities and no others, and the sidecar none', () => {
    const pod = injected(podOf());
    expect(at(container(pod, 'postern-init'), 'securityContext')).toEqual({
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      seccompProfile: { type: 'RuntimeDefault' },
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
      runAsNonRoot: false,
      runAsUser: 0,
      runAsGroup: 0,
    });
    expect(at(container(pod, 'postern-proxy'), 'securityContext')).toEqual({
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      seccompProfile: { type: 'RuntimeDefault' },
      capabilities: { drop: ['ALL'] },
      runAsNonRoot: true,
      runAsUser: 1337,
      runAsGroup: 1337,
    });
  });

  test('has containers of different users, so that the kubelet leaves the token readable for the sidecar', () => {
    const pod = injected(podOf({ spec: { containers: [{ name: 'app' }], securityContext: { runAsUser: 1000 } } }));
    const users = ['postern-init', 'postern-proxy'].map((name) =>
      at(container(pod, name), 'securityContext', 'runAsUser'),
    );
    expect(new Set(users).size).toBe(2);
    expect(at(pod, 'spec', 'volumes', 0, 'projected', 'defaultMode')).toBe(0o444);
  });

  test('mounts token and roots in the sidecar alone, and nothing writable', () => {
    const pod = injected(podOf());
    expect(at(container(pod, 'postern-proxy'), 'volumeMounts')).toEqual([
      { name: 'postern-token', mountPath: '/var/run/secrets/postern', readOnly: true },
      { name: 'postern-ca-roots', mountPath: '/var/run/postern/ca', readOnly: true },
    ]);
    expect(at(container(pod, 'postern-init'), 'volumeMounts')).toBeUndefined();
    expect(at(container(pod, 'app'), 'volumeMounts')).toBeUndefined();
    expect(JSON.stringify(at(pod, 'spec', 'volumes'))).not.toContain('emptyDir');
    expect(at(pod, 'spec', 'volumes', 0, 'projected', 'sources', 0, 'serviceAccountToken')).toEqual({
      audience: 'postern',
      expirationSeconds: 43_200,
      path: 'token',
    });
  });

  test('asks for tokens that the kubelet makes anew in time by an API server whose clock is two hours ahead', () => {
    // pkg/kubelet/token: with a fifth of its life left, by the node's clock.
    expect(0.2 * INJECTION_DEFAULTS.tokenSeconds).toBeGreaterThan(2 * 3600);
  });

  test('runs the redirection with the flags of its annotations', () => {
    const pod = injected(
      annotated({
        'postern.dev/exclude-outbound-ports': '5432,6379-6380',
        'postern.dev/include-outbound-cidrs': '10.0.0.0/8,fd00::/8',
        'postern.dev/exclude-interfaces': 'net1',
      }),
    );
    expect(at(container(pod, 'postern-init'), 'command')).toEqual([
      ...['postern', 'intercept', 'apply', '--validate'],
      ...['--exclude-outbound-ports', '5432,6379-6380'],
      ...['--include-outbound-cidrs', '10.0.0.0/8,fd00::/8'],
      ...['--exclude-interfaces', 'net1'],
    ]);
  });

  test.each<[string, { readonly [name: string]: string }, boolean]>([
    ['usually', {}, true],
    ['where some IPv4 is redirected', { 'include-outbound-cidrs': '10.0.0.0/8' }, true],
    ['where some ports are', { 'include-outbound-ports': '80-90', 'exclude-outbound-ports': '80-89' }, true],
    ['where IPv6 alone is left out', { 'exclude-outbound-cidrs': '::/0' }, true],
    ['not where every address is left out', { 'exclude-outbound-cidrs': '0.0.0.0/0,::/0' }, false],
    ['not where every IPv4 address is', { 'exclude-outbound-cidrs': '0.0.0.0/0' }, false],
    ['not where IPv6 alone is redirected', { 'include-outbound-cidrs': 'fd00::/8' }, false],
    ['not where every port is left out', { 'exclude-outbound-ports': '1-1000,1001-65535' }, false],
    ['not where all those included are', { 'include-outbound-ports': '80', 'exclude-outbound-ports': '1-100' }, false],
  ])('proves its redirection %s', (_, words, isProven) => {
    const annotations = Object.entries(words).map(([name, text]) => [`postern.dev/${name}`, text]);
    const result = run(annotated(Object.fromEntries(annotations)));
    const pod = result.outcome === 'injected' ? result.pod : {};
    expect((at(container(pod, 'postern-init'), 'command') as readonly string[]).includes('--validate')).toBe(isProven);
    expect(result.warnings).toHaveLength(isProven ? 0 : 1);
  });

  test('says what was injected', () => {
    const text = at(injected(podOf()), 'metadata', 'annotations', 'postern.dev/status');
    expect(JSON.parse(String(text))).toEqual({
      version: '0.1.0',
      image: 'registry.example/postern:1.0',
      initContainers: ['postern-init', 'postern-proxy'],
      containers: [],
      volumes: ['postern-token', 'postern-ca-roots'],
    });
  });

  test.each<[string, { readonly [name: string]: string }, unknown]>([
    ['points Prometheus at the sidecar', {}, ['true', '15020', '/metrics']],
    [
      'leaves alone what its author says to Prometheus',
      { 'prometheus.io/scrape': 'false' },
      ['false', undefined, undefined],
    ],
  ])('%s', (_, annotations, expected) => {
    const found = at(injected(annotated(annotations)), 'metadata', 'annotations');
    expect(['scrape', 'port', 'path'].map((name) => at(found, `prometheus.io/${name}`))).toEqual(expected);
  });

  test('an earlier injection is brought up to date', () => {
    const old = injected(podWith({ readinessProbe: { tcpSocket: { port: 80 } } }));
    const settings = { image: 'registry.example/postern:2.0', nativeSidecar: false };
    const fresh = injected(podWith({ readinessProbe: { tcpSocket: { port: 80 } } }), settings);
    expect(injected(old, settings).spec).toEqual(fresh.spec);
  });

  test('containers that others added after the first injection get their probes turned as well', () => {
    const once = injected(podWith({ readinessProbe: { httpGet: { port: 8080 } } }));
    const spec = once.spec as JsonObject;
    const added = { name: 'late', image: 'y', livenessProbe: { tcpSocket: { port: 7000 } } };
    const again = injected({ ...once, spec: { ...spec, containers: [...(spec.containers as JsonObject[]), added] } });
    expect(at(container(again, 'late'), 'livenessProbe')).toEqual({
      httpGet: { path: '/app-health/late/livez', port: 15021 },
    });
    expect(at(container(again, 'app'), 'readinessProbe')).toEqual(at(container(once, 'app'), 'readinessProbe'));
  });

  test('a forged status does not keep the sidecar away', () => {
    const pod = injected(annotated({ 'postern.dev/status': '{"containers":["postern-proxy"]}' }));
    expect(container(pod, 'postern-proxy')).toBeDefined();
  });
});

describe('what would break isolation is refused, with its place and a remedy', () => {
  const init = (extra: JsonObject): JsonObject =>
    podOf({ spec: { containers: [{ name: 'app' }], initContainers: [{ name: 'setup', ...extra }] } });
  const spec = (extra: JsonObject): JsonObject => podOf({ spec: { containers: [{ name: 'app' }], ...extra } });

  test.each<[string, JsonObject, string]>([
    [
      'a container of the sidecar’s user',
      podWith({ securityContext: { runAsUser: 1337 } }),
      'spec.containers.0.securityContext.runAsUser: container app has runAsUser 1337',
    ],
    [
      'a container of the sidecar’s group',
      podWith({ securityContext: { runAsGroup: 1337 } }),
      'spec.containers.0.securityContext.runAsGroup: ',
    ],
    [
      'an init container of the sidecar’s user',
      init({ securityContext: { runAsUser: 1337 } }),
      'spec.initContainers.0.securityContext.runAsUser: ',
    ],
    ['a pod of the sidecar’s user', spec({ securityContext: { runAsUser: 1337 } }), 'spec.securityContext.runAsUser: '],
    [
      'a container called like the sidecar',
      spec({ containers: [{ name: 'postern-proxy' }] }),
      'spec.containers.0.name: ',
    ],
    ['a container called like the init container', init({ name: 'postern-init' }), 'spec.initContainers.0.name: '],
    [
      'a volume called like ours',
      spec({ volumes: [{ name: 'postern-token', emptyDir: {} }] }),
      'spec.volumes.0.name: ',
    ],
    [
      'a container that mounts our token',
      podWith({ volumeMounts: [{ name: 'postern-token', mountPath: '/x' }] }),
      'spec.containers.0.volumeMounts.0: ',
    ],
    ...[15_000, 15_001, 15_006, 15_008, 15_020, 15_021].map((port): [string, JsonObject, string] => [
      `port ${port}`,
      podWith({ ports: [{ containerPort: 80 }, { containerPort: port }] }),
      `spec.containers.0.ports.1.containerPort: container app uses port ${port}`,
    ]),
    ['no containers', spec({ containers: [] }), 'spec.containers: '],
    ['two containers of one name', spec({ containers: [{ name: 'a' }, { name: 'a' }] }), 'spec.containers.1.name: '],
    ['containers that are no list', spec({ containers: { name: 'a' } }), 'spec.containers: '],
    ['labels that are no texts', podOf({ metadata: { labels: { a: 1 } } }), 'metadata.labels.a: '],
  ])('%s', (_, pod, message) => {
    const errors = errorsOf(run(pod));
    expect(
      errors.some((error) => error.startsWith(message)),
      errors.join('\n'),
    ).toBe(true);
  });

  test('a container may override the pod’s user', () => {
    const containers = [{ name: 'app', securityContext: { runAsUser: 1000 } }];
    expect(run(spec({ containers, securityContext: { runAsUser: 1337 } })).outcome).toBe('injected');
  });

  test('UDP ports collide with nothing', () => {
    expect(run(podWith({ ports: [{ containerPort: 15_001, protocol: 'UDP' }] })).outcome).toBe('injected');
  });

  test('everything that is wrong is said at once', () => {
    const pod = podOf({
      metadata: { annotations: { 'postern.dev/workers': 'many', 'postern.dev/log-level': 'loud' } },
      spec: { containers: [{ name: 'app', ports: [{ containerPort: 15_001 }] }] },
    });
    expect(errorsOf(run(pod))).toHaveLength(3);
  });
});

describe('what weakens isolation is warned of', () => {
  test.each<[string, JsonObject, string]>([
    ['a shared process namespace', { shareProcessNamespace: true }, 'spec.shareProcessNamespace is true'],
    ['membership of the sidecar’s group', { securityContext: { fsGroup: 1337 } }, 'group 1337'],
    ['supplementary groups', { securityContext: { supplementalGroups: [5, 1337] } }, 'group 1337'],
    [
      'local ports that the sidecar has',
      { securityContext: { sysctls: [{ name: 'net.ipv4.ip_local_port_range', value: '1024 65000' }] } },
      '15000, 15001',
    ],
    [
      'privileged containers',
      { containers: [{ name: 'app', securityContext: { privileged: true } }] },
      'is privileged',
    ],
    [
      'NET_ADMIN',
      { containers: [{ name: 'app', securityContext: { capabilities: { add: ['NET_ADMIN'] } } }] },
      'has NET_ADMIN',
    ],
    [
      'hooks over HTTP',
      { containers: [{ name: 'app', lifecycle: { preStop: { httpGet: { port: 80 } } } }] },
      'preStop hook of container app',
    ],
  ])('%s', (_, spec, message) => {
    const result = run(podOf({ spec: { containers: [{ name: 'app' }], ...spec } }));
    expect(result.outcome).toBe('injected');
    expect(result.warnings.map((warning) => warning.message).join('\n')).toContain(message);
  });
});
