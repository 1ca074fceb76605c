import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PosternError } from '../../mesh/errors.ts';
import { announcedTunnel } from '../../proxy/config.ts';
import { loadConfig, parseConfig } from '../../proxy/config-file.ts';

const HEAD = `workload: { name: orders-1, namespace: shop, serviceAccount: orders, labels: { app: orders, version: v1 } }
controlPlane: { address: "https://127.0.0.1:15012", caFile: ./ca.pem, joinTokenFile: ./token }
`;
const FULL = `${HEAD}inbound:  { listen: "0.0.0.0:15006", tunnel: "0.0.0.0:15008" }
outbound: { listen: "0.0.0.0:15001" }
expose:    [ { port: 8080, application: "127.0.0.1:9000" } ]
upstreams: [ { listen: "127.0.0.1:7401", service: "payments.shop:8080" } ]
admin: { listen: "127.0.0.1:15000" }
metrics: { listen: "0.0.0.0:15020" }
health: { listen: "0.0.0.0:15021" }
workers: 1
`;

function problemsOf(content: string): string[] {
  try {
    parseConfig(content, 'proxy.yaml');
    return [];
  } catch (error) {
    if (!(error instanceof PosternError)) throw error;
    expect(error).toMatchObject({ code: 'ERR_CONFIG', exitCode: 78 });
    return error.message.split('\n');
  }
}

describe('proxy.yaml', () => {
  it('takes the documented form whole', () => {
    expect(parseConfig(FULL, '/etc/postern/proxy.yaml')).toMatchObject({
      workload: {
        name: 'orders-1',
        namespace: 'shop',
        serviceAccount: 'orders',
        labels: { app: 'orders', version: 'v1' },
      },
      controlPlane: {
        address: 'https://127.0.0.1:15012',
        caFile: '/etc/postern/ca.pem',
        joinTokenFile: '/etc/postern/token',
      },
      inbound: { listen: { address: '0.0.0.0', port: 15006 }, tunnel: { address: '0.0.0.0', port: 15008 } },
      outbound: { listen: { address: '0.0.0.0', port: 15001 }, mark: 0 },
      expose: [{ port: 8080, application: { address: '127.0.0.1', port: 9000 } }],
      upstreams: [{ listen: { address: '127.0.0.1', port: 7401 }, service: 'shop/payments', port: 8080 }],
      workers: 1,
    });
  });

  it('has the documented defaults', () => {
    expect(parseConfig(`${HEAD}outbound: { listen: "127.0.0.1:15001" }`, 'proxy.yaml')).toMatchObject({
      inbound: { listen: null, tunnel: null },
      admin: { listen: { address: '127.0.0.1', port: 15000 } },
      metrics: { listen: { address: '0.0.0.0', port: 15020 } },
      health: { listen: { address: '0.0.0.0', port: 15021 } },
      workers: 1,
      accessLog: 'on',
      logLevel: 'info',
      drainTimeoutMs: 30_000,
      certificate: { ttlMs: null },
      limits: {
        maxConnections: 10_000,
        connectTimeoutMs: 10_000,
        handshakeTimeoutMs: 10_000,
        peekTimeoutMs: 5000,
        idleTimeoutMs: 3_600_000,
        tunnelIdleTimeoutMs: 300_000,
        bufferBytes: 262_144,
        maxStreamsPerTunnel: 100,
      },
    });
  });

  it.each([
    ['payments.shop:8080', 'shop/payments'],
    ['payments.shop.svc:8080', 'shop/payments'],
    ['payments.shop.svc.cluster.local:8080', 'shop/payments'],
  ])('reads the service %s', (service, name) => {
    const config = parseConfig(`${HEAD}upstreams: [ { listen: "[::1]:7401", service: "${service}" } ]`, 'proxy.yaml');
    expect(config.upstreams).toEqual([{ listen: { address: '::1', port: 7401 }, service: name, port: 8080 }]);
  });

  it.each([
    ['30s', 30_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['250ms', 250],
  ])('reads the duration %s', (written, ms) => {
    expect(parseConfig(`${FULL}drainTimeout: ${written}`, 'proxy.yaml').drainTimeoutMs).toBe(ms);
  });

  it.each([
    ['an unknown key', `${FULL}worker: 2`, /^proxy\.yaml:11:1: unknown setting "worker": known here are .*workers/],
    ['an unknown nested key', `${FULL}limits: { idle: 5m }`, /:11:11: unknown setting "limits\.idle"/],
    [
      'a bad type',
      `${HEAD}outbound: { listen: 15001 }`,
      /:3:21: outbound\.listen must be an IP address and a port.*not 15001/,
    ],
    [
      'a host name for an address',
      `${HEAD}outbound: { listen: "localhost:15001" }`,
      /:3:21: .*such as "127\.0\.0\.1:8080"/,
    ],
    ['a port out of range', `${HEAD}outbound: { listen: "127.0.0.1:70000" }`, /outbound\.listen must be/],
    ['an IPv6 address without brackets', `${HEAD}outbound: { listen: "::1:15001" }`, /outbound\.listen must be/],
    ['nothing to do', HEAD, /nothing to do: write at least one of inbound, outbound, expose and upstreams/],
    ['a missing section', 'outbound: { listen: "127.0.0.1:1" }', /workload is missing/],
    ['a missing name', FULL.replace('name: orders-1, ', ''), /:1:11: workload\.name is missing/],
    [
      'a label that is a number',
      FULL.replace('version: v1', 'version: 1'),
      /workload\.labels\.version must be .*quote numbers/,
    ],
    [
      'a label key that Kubernetes would not take',
      FULL.replace('version: v1', '"a b": v1'),
      /workload\.labels cannot have the key "a b"/,
    ],
    ['plain http', FULL.replace('https:', 'http:'), /controlPlane\.address must be an https origin/],
    ['a path in the origin', FULL.replace(':15012"', ':15012/v1"'), /controlPlane\.address must be an https origin/],
    ['a duplicate key', `${FULL}workers: 2`, /:11:1: .*unique/],
    ['broken YAML', `${FULL}limits: { idleTimeout: [`, /^proxy\.yaml:\d+:\d+: /],
    [
      'an alias',
      `${HEAD}outbound: &a { listen: "127.0.0.1:15001" }\ninbound: *a`,
      /:4:10: inbound must be a map, not a YAML alias/,
    ],
    ['a list for a map', 'a: 1\n- b', /^proxy\.yaml:/],
    ['an empty file', '', /^proxy\.yaml:1:1: workload is missing/],
    ['a scalar for a map', '~', /^proxy\.yaml:1:1: the file must be a map of settings/],
    ['a number without a unit', `${FULL}drainTimeout: 30`, /drainTimeout must be a duration such as 30s/],
    ['an admin port open to all', FULL.replace('127.0.0.1:15000', '0.0.0.0:15000'), /allowRemote: true/],
    [
      'one port twice',
      FULL.replace('0.0.0.0:15020', '0.0.0.0:15021'),
      /health\.listen and metrics\.listen listen on the same port 15021/,
    ],
    ['one port twice over two families', FULL.replace('0.0.0.0:15001', '[::]:15006'), /listen on the same port 15006/],
    ['expose without a way in', `${HEAD}expose: [ { port: 1, application: "127.0.0.1:2" } ]`, /expose needs a way in/],
    [
      'one exposed port twice',
      FULL.replace('expose:    [', 'expose: [ { port: 8080, application: "127.0.0.1:1" },'),
      /names port 8080 twice/,
    ],
    ['a tunnel that cannot be announced', FULL.replace('0.0.0.0:15008', '0.0.0.0:25008'), /add workload\.addresses/],
    [
      'too many workers',
      FULL.replace('workers: 1', 'workers: 65'),
      /workers must be a whole number from 1 to 64, not 65/,
    ],
    [
      'a service without namespace',
      FULL.replace('payments.shop:8080', 'payments:8080'),
      /upstreams\[0\]\.service must be a service/,
    ],
  ])('refuses %s and says where', (_, content, message) => {
    expect(problemsOf(content)).toContainEqual(expect.stringMatching(message));
  });

  it('tells every problem at once, in the order of the file', () => {
    const problems = problemsOf('workload: { name: A, namespace: shop }\nworkers: x\nfoo: 1\n');
    expect(problems.map((problem) => problem.split(':').slice(1, 2).join())).toEqual(['1', '1', '1', '1', '2', '3']);
  });

  it('announces the tunnel only where it is not port 15008 of the first address', () => {
    const at = (addresses: string, tunnel: string, rest = '') =>
      announcedTunnel(
        parseConfig(
          `${HEAD.replace('labels', `addresses: [${addresses}], labels`)}inbound: { tunnel: "${tunnel}" }\n${rest}`,
          'f',
        ),
      );
    expect(at('"10.0.0.1"', '0.0.0.0:15008')).toBeNull();
    expect(at('"127.0.0.2"', '127.0.0.2:15008')).toBeNull();
    expect(at('"127.0.0.2"', '127.0.0.3:15008')).toEqual({ address: '127.0.0.3', port: 15_008 });
    expect(at('"10.0.0.1"', '0.0.0.0:25008')).toEqual({ address: '10.0.0.1', port: 25_008 });
    expect(at('"10.0.0.1"', '0.0.0.0:25008', 'tunnelPort: 15008')).toBeNull();
  });

  it('says which file cannot be read, and reads one that can', () => {
    const directory = mkdtempSync(join(tmpdir(), 'postern-config-'));
    try {
      expect(() => loadConfig(join(directory, 'none.yaml'))).toThrow(/cannot read .*none\.yaml: ENOENT.*--config/);
      writeFileSync(join(directory, 'proxy.yaml'), FULL);
      expect(loadConfig(join(directory, 'proxy.yaml')).controlPlane.caFile).toBe(join(directory, 'ca.pem'));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
