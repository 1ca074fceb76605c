import { afterEach, describe, expect, it } from 'vitest';
import { PosternError } from '../../mesh/errors.ts';
import type { ProxyConfig } from '../../proxy/config.ts';
import { loadConfig, parseConfig } from '../../proxy/config-file.ts';

const NAME = 'POSTERN_TEST_SETTINGS';
const BASE = {
  workload: { name: 'orders-1', namespace: 'shop', serviceAccount: 'orders' },
  controlPlane: { address: 'https://127.0.0.1:15012', caFile: '/var/run/postern/ca/root-cert.pem' },
  inbound: { tunnel: '0.0.0.0:15008' },
};

const read = (settings: object): ProxyConfig => parseConfig(JSON.stringify({ ...BASE, ...settings }), 'proxy.yaml');

function problemOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (!(error instanceof PosternError)) throw error;
    expect(error).toMatchObject({ code: 'ERR_CONFIG', exitCode: 78 });
    return error.message;
  }
  return '';
}

afterEach(() => {
  delete process.env[NAME];
});

describe('settings from the environment', () => {
  it.each([
    ['JSON', JSON.stringify(BASE)],
    [
      'YAML',
      'workload: {name: orders-1, namespace: shop, serviceAccount: orders}\ncontrolPlane: {address: "https://127.0.0.1:15012", caFile: /ca.pem}\ninbound: {tunnel: "0.0.0.0:15008"}',
    ],
  ])('are read from a variable of %s, which is taken out of the environment', (_, content) => {
    process.env[NAME] = content;
    expect(loadConfig(`env:${NAME}`)).toMatchObject({ file: `env:${NAME}`, workload: { name: 'orders-1' } });
    expect(process.env[NAME]).toBeUndefined();
  });

  it('have their problems reported at the place in the variable', () => {
    process.env[NAME] = JSON.stringify({ ...BASE, workers: 0 });
    expect(problemOf(() => loadConfig(`env:${NAME}`))).toMatch(
      /^env:POSTERN_TEST_SETTINGS:1:[0-9]+: workers must be a whole number/,
    );
  });

  it.each(['env:', 'env:POSTERN_NO_SUCH_VARIABLE'])('say so where %s is no variable', (path) => {
    expect(problemOf(() => loadConfig(path))).toContain(`${path}: there is no such environment variable`);
  });
});

describe('addresses of the workload', () => {
  const addresses = (written: unknown) =>
    read({ workload: { ...BASE.workload, addresses: written } }).workload.addresses;

  it.each([
    ['10.0.0.1', ['10.0.0.1']],
    ['10.0.0.1,fd00::1', ['10.0.0.1', 'fd00::1']],
    [
      ['10.0.0.1', 'fd00::1'],
      ['10.0.0.1', 'fd00::1'],
    ],
  ])('may be written %j', (written, expected) => expect(addresses(written)).toEqual(expected));

  it.each(['', '10.0.0.1,', '$(POD_IPS)', '10.0.0.1 fd00::1', 7])('may not be written %j', (written) => {
    expect(problemOf(() => addresses(written))).toContain('workload.addresses must be a list');
  });
});

describe('proof of identity', () => {
  it('may be a service account token', () => {
    const controlPlane = { ...BASE.controlPlane, serviceAccountTokenFile: '/var/run/secrets/postern/token' };
    expect(read({ controlPlane }).controlPlane).toMatchObject({
      joinTokenFile: null,
      serviceAccountTokenFile: '/var/run/secrets/postern/token',
    });
  });

  it('is one of join token and service account token, not both', () => {
    const controlPlane = { ...BASE.controlPlane, joinTokenFile: '/a', serviceAccountTokenFile: '/b' };
    expect(problemOf(() => read({ controlPlane }))).toContain('two proofs of identity');
  });
});

describe('drain', () => {
  it.each([
    [{}, false],
    [{ drain: { keepOutbound: true } }, true],
  ])('%j keeps outbound: %j', (settings, keeps) => expect(read(settings).drain.keepOutbound).toBe(keeps));
});

describe('probes', () => {
  const path = '/app-health/web/readyz';

  it.each([
    [
      { path, tcp: { port: 8080 } },
      { path, timeoutMs: 1000, ask: { kind: 'tcp', port: 8080 } },
    ],
    [
      { path, timeout: '5s', grpc: { port: 9 } },
      { path, timeoutMs: 5000, ask: { kind: 'grpc', port: 9, service: '' } },
    ],
    [
      { path, http: { port: 80, path: 'healthz?x=1' } },
      {
        path,
        timeoutMs: 1000,
        ask: { kind: 'http', port: 80, path: '/healthz?x=1', scheme: 'HTTP', host: null, headers: [] },
      },
    ],
    [
      { path, http: { port: 80, scheme: 'HTTPS', host: 'shop.example', headers: [{ name: 'X-A', value: 'b c' }] } },
      {
        path,
        timeoutMs: 1000,
        ask: {
          kind: 'http',
          port: 80,
          path: '/',
          scheme: 'HTTPS',
          host: 'shop.example',
          headers: [{ name: 'X-A', value: 'b c' }],
        },
      },
    ],
  ])('%j is read', (written, expected) => expect(read({ probes: [written] }).probes).toEqual([expected]));

  it.each([
    [{ path: '/healthz/ready', tcp: { port: 1 } }, 'probes[0].path must be a path such as /app-health'],
    [{ path }, 'write one of http, tcp and grpc, not none'],
    [{ path, tcp: { port: 1 }, grpc: { port: 2 } }, 'not tcp and grpc'],
    [{ path, tcp: { port: 0 } }, 'probes[0].tcp.port must be a whole number'],
    [{ path, http: { port: 1, path: '/a b' } }, 'probes[0].http.path must be a path'],
    [{ path, http: { port: 1, scheme: 'http' } }, 'probes[0].http.scheme must be one of HTTP, HTTPS'],
    [{ path, http: { port: 1, host: 'a\r\nb' } }, 'probes[0].http.host must be a host'],
    [{ path, http: { port: 1, headers: [{ name: 'a b', value: '' }] } }, 'headers[0].name must be the name'],
    [{ path, http: { port: 1, headers: [{ name: 'a', value: 'b\r\nc: d' }] } }, 'headers[0].value must be the value'],
    [{ path, http: { port: 1, method: 'POST' } }, 'unknown setting "probes[0].http.method"'],
    [{ path, timeout: '0s', tcp: { port: 1 } }, 'probes[0].timeout must be a duration'],
  ])('%j is refused', (written, problem) => {
    expect(problemOf(() => read({ probes: [written] }))).toContain(problem);
  });

  it('have paths of their own', () => {
    const probe = { path, tcp: { port: 1 } };
    expect(problemOf(() => read({ probes: [probe, probe] }))).toContain(`names the path ${path} twice`);
  });
});
