import { describe, expect, it } from 'vitest';
import { PosternError } from '../../mesh/errors.ts';
import type { ProxyConfig } from '../../proxy/config.ts';
import { parseConfig } from '../../proxy/config-file.ts';
import { HTTP_LIMITS } from './support/http-limits.ts';

const BASE = `workload: { name: orders-1, namespace: shop, serviceAccount: orders }
controlPlane: { address: "https://127.0.0.1:15012", caFile: ./ca.pem }
inbound: { tunnel: "127.0.0.1:15008" }
`;

const read = (settings: string): ProxyConfig => parseConfig(BASE + settings, 'proxy.yaml');

function problemOf(settings: string): string {
  try {
    read(settings);
    return '';
  } catch (error) {
    if (!(error instanceof PosternError)) throw error;
    return error.message;
  }
}

describe('the settings of HTTP', () => {
  it('have the documented defaults', () => {
    const { http, opaquePorts, tracing } = read('');
    expect(http).toEqual(HTTP_LIMITS);
    expect(opaquePorts).toEqual([25, 587, 3306, 4444, 5432, 6379, 9300, 11_211]);
    expect(tracing).toBeNull();
  });

  it('are read in their units', () => {
    const { http } = read(
      'http: { headerBytes: 64KiB, headerCount: 50, requestTimeout: 15s, detectTimeout: 50ms, maxPendingRequests: 7 }',
    );
    expect(http).toEqual({
      ...HTTP_LIMITS,
      headerBytes: 65_536,
      headerCount: 50,
      requestTimeoutMs: 15_000,
      detectTimeoutMs: 50,
      maxPendingRequests: 7,
    });
  });

  it('may turn the idle timeout of streams off, but no limit', () => {
    expect(read('http: { streamIdleTimeout: 0s }').http.streamIdleTimeoutMs).toBe(0);
    expect(problemOf('http: { maxConcurrentStreams: 0 }')).toMatch(/http\.maxConcurrentStreams must be a whole number/);
  });

  it.each([
    ['a head larger than a read', 'http: { headerBytes: 1MiB }', /http\.headerBytes must be a size/],
    ['no deadline for detection', 'http: { detectTimeout: 0s }', /http\.detectTimeout must be a duration/],
    ['an unknown limit', 'http: { maxHeaders: 3 }', /unknown setting "http\.maxHeaders"/],
    ['a port that is none', 'opaquePorts: [ 0 ]', /opaquePorts\[0\] must be a whole number from 1 to 65535/],
    ['tracing to nowhere', 'tracing: { sampling: 1 }', /tracing\.endpoint is missing/],
    ['a share above 1', 'tracing: { endpoint: "http://c:4318", sampling: 10 }', /tracing\.sampling must be a number/],
    ['credentials in a URL', 'tracing: { endpoint: "http://u:p@c:4318" }', /tracing\.endpoint must be/],
    ['a collector that is not HTTP', 'tracing: { endpoint: "grpc://c:4317" }', /tracing\.endpoint must be/],
  ])('refuse %s', (_, settings, message) => {
    expect(problemOf(settings)).toMatch(message);
  });

  it.each([
    ['[ 5000, 27017 ]', [5000, 27_017]],
    ['[]', []],
  ])('take the list of opaque ports %s instead of the default one', (written, ports) => {
    expect(read(`opaquePorts: ${written}`).opaquePorts).toEqual(ports);
  });

  it('name the collector without a slash at its end', () => {
    expect(read('tracing: { endpoint: "http://127.0.0.1:4318/" }').tracing).toEqual({
      endpoint: 'http://127.0.0.1:4318',
      sampling: 0.01,
    });
  });
});
