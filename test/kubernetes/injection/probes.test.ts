import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../policy/types.ts';
import { annotated, at, container, injected, podOf, podWith, run, sidecarSettingsOf } from './support.ts';

const PORTS = [
  { name: 'http', containerPort: 8080 },
  { name: 'dns', containerPort: 53, protocol: 'UDP' },
];

function turn(probe: JsonObject, key = 'readinessProbe') {
  const pod = injected(podWith({ ports: PORTS, [key]: probe }));
  return { probe: at(container(pod, 'app'), key), settings: at(sidecarSettingsOf(pod), 'probes', 0) };
}

describe('a probe is answered by the sidecar', () => {
  test.each<[string, JsonObject, JsonObject]>([
    ['HTTP', { httpGet: { path: '/ready', port: 8080 } }, { http: { port: 8080, path: '/ready' } }],
    ['HTTP without a path', { httpGet: { port: 8080 } }, { http: { port: 8080, path: '/' } }],
    ['a port by name', { httpGet: { port: 'http' } }, { http: { port: 8080, path: '/' } }],
    ['a port as text', { httpGet: { port: '8081' } }, { http: { port: 8081, path: '/' } }],
    ['HTTPS', { httpGet: { port: 8443, scheme: 'HTTPS' } }, { http: { port: 8443, path: '/', scheme: 'HTTPS' } }],
    [
      'headers, Host apart',
      {
        httpGet: {
          port: 80,
          httpHeaders: [
            { name: 'X-A', value: '$(B)' },
            { name: 'host', value: 'shop.example' },
          ],
        },
      },
      { http: { port: 80, path: '/', host: 'shop.example', headers: [{ name: 'X-A', value: '$(B)' }] } },
    ],
    ['TCP', { tcpSocket: { port: 'http' } }, { tcp: { port: 8080 } }],
    ['gRPC', { grpc: { port: 9000 } }, { grpc: { port: 9000 } }],
    [
      'gRPC of a service',
      { grpc: { port: 9000, service: 'shop.Orders' } },
      { grpc: { port: 9000, service: 'shop.Orders' } },
    ],
  ])('%s', (_, probe, asked) => {
    expect(turn(probe)).toEqual({
      probe: { httpGet: { path: '/app-health/app/readyz', port: 15021 } },
      settings: { path: '/app-health/app/readyz', timeout: '1s', ...asked },
    });
  });

  test.each([
    ['readinessProbe', 'readyz'],
    ['livenessProbe', 'livez'],
    ['startupProbe', 'startupz'],
  ])('%s at %s', (key, word) => {
    expect(turn({ tcpSocket: { port: 80 } }, key).probe).toEqual({
      httpGet: { path: `/app-health/app/${word}`, port: 15021 },
    });
  });

  test.each([
    [undefined, '1s'],
    [0, '1s'],
    [7, '7s'],
    [9999, '3600s'],
  ])('timeoutSeconds %s: %s', (timeoutSeconds, expected) => {
    const probe = { tcpSocket: { port: 80 }, ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }) };
    expect(at(turn(probe).settings, 'timeout')).toBe(expected);
  });

  test('of init containers that stay as well', () => {
    const initContainers = [{ name: 'helper', restartPolicy: 'Always', startupProbe: { tcpSocket: { port: 80 } } }];
    const pod = injected(podOf({ spec: { containers: [{ name: 'app' }], initContainers } }));
    expect(at(container(pod, 'helper'), 'startupProbe', 'httpGet', 'port')).toBe(15021);
  });
});

describe('a probe is left as it is', () => {
  test.each<[string, JsonObject, string | null]>([
    ['that runs a command', { exec: { command: ['true'] } }, null],
    ["at the sidecar's health port", { httpGet: { port: 15021, path: '/healthz/ready' } }, null],
    ["at the sidecar's metrics port", { httpGet: { port: 15020, path: '/metrics' } }, null],
    ['at an excluded port', { tcpSocket: { port: 9999 } }, null],
    ['of another host', { httpGet: { port: 80, host: 'db.example' } }, 'it names a host'],
    ['of another host over TCP', { tcpSocket: { port: 80, host: 'db.example' } }, 'it names a host'],
    ['of a port that is not declared', { httpGet: { port: 'admin' } }, 'its port "admin" is none of container app'],
    ['of a UDP port', { tcpSocket: { port: 'dns' } }, 'its port "dns"'],
    ['with a path that no request line holds', { httpGet: { port: 80, path: '/a b' } }, 'its path'],
    [
      'with headers that no request holds',
      { httpGet: { port: 80, httpHeaders: [{ name: 'a', value: 'b\r\nc' }] } },
      'its headers',
    ],
  ])('%s', (_, probe, warning) => {
    const given = podOf({
      metadata: { annotations: { 'postern.dev/exclude-inbound-ports': '9000-9999' } },
      spec: { containers: [{ name: 'app', ports: PORTS, livenessProbe: probe }] },
    });
    const result = run(given);
    expect(at(container(result.outcome === 'injected' ? result.pod : {}, 'app'), 'livenessProbe')).toEqual(probe);
    expect(result.warnings.map(({ message }) => message)).toEqual(
      warning === null ? [] : [expect.stringContaining(warning)],
    );
  });

  test('at a port that is not among those that are redirected', () => {
    const given = podOf({
      metadata: { annotations: { 'postern.dev/include-inbound-ports': '80' } },
      spec: { containers: [{ name: 'app', livenessProbe: { tcpSocket: { port: 81 } } }] },
    });
    expect(at(container(injected(given), 'app'), 'livenessProbe')).toEqual({ tcpSocket: { port: 81 } });
  });

  test('where the author says so', () => {
    const probe = { tcpSocket: { port: 80 } };
    const { metadata } = annotated({ 'postern.dev/rewrite-probes': 'false' });
    const pod = injected({ ...podWith({ livenessProbe: probe }), metadata: metadata as JsonObject });
    expect(at(container(pod, 'app'), 'livenessProbe')).toEqual(probe);
    expect(at(sidecarSettingsOf(pod), 'probes')).toBeUndefined();
  });
});
