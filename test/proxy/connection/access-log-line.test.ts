import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { quote, requestLine } from '../../../proxy/connection/access-log-line.ts';
import type { RequestRecord } from '../../../proxy/connection/request-record.ts';
import { decision, request } from './support/requests.ts';
import { Scrape, UNIX_NOW, WorkerTelemetry } from './support/telemetry-plane.ts';

let record: RequestRecord;

beforeEach(() => {
  record = request(new WorkerTelemetry(new Scrape()).plane);
});

const parsed = (): Record<string, unknown> => JSON.parse(requestLine(record, UNIX_NOW)) as Record<string, unknown>;

describe('the line of a request', () => {
  test('has the fields of a connection’s line and those of HTTP', () => {
    Object.assign(record, {
      decision: decision({ policy: 'shop/allow', rule: 2, reason: 'allow-policy' }),
      originalDestination: { address: '2001:db8::1', port: 80 },
      tls: { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256', group: 'X25519', alpn: 'h2', resumed: false },
      userAgent: 'curl/8',
      requestId: 'b7a9',
      userPrincipal: 'https://idp/alice',
      requestBytes: 120,
      responseBytes: 3400,
      durationMs: 12.3456,
      ttfbMs: 9,
      upstreamMs: 8.004,
    });
    record.follow('00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
    expect(parsed()).toEqual({
      level: 'info',
      time: new Date(UNIX_NOW).toISOString(),
      msg: 'access',
      direction: 'inbound',
      protocol: 'http',
      transport: 'hbone',
      verdict: 'allowed',
      policy: 'shop/allow',
      rule: 2,
      reason: 'allow-policy',
      source: {
        address: '10.0.0.7:40000',
        workload: 'frontend',
        namespace: 'shop',
        principal: 'spiffe://cluster.local/ns/shop/sa/frontend',
      },
      destination: {
        address: '10.0.0.8:8080',
        workload: 'orders',
        namespace: 'shop',
        principal: 'spiffe://cluster.local/ns/shop/sa/orders',
      },
      service: 'orders.shop.svc.cluster.local',
      originalDestination: '[2001:db8::1]:80',
      method: 'GET',
      path: '/orders/1',
      authority: 'orders.shop:8080',
      version: 'http/1.1',
      status: 200,
      bytesReceived: 120,
      bytesSent: 3400,
      durationMs: 12.35,
      upstreamMs: 8,
      ttfbMs: 9,
      tls: { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256', group: 'X25519', alpn: 'h2', resumed: false },
      userAgent: 'curl/8',
      requestId: 'b7a9',
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      userPrincipal: 'https://idp/alice',
      attempts: 1,
      flags: '-',
      detail: '',
    });
  });

  test('has null for what is not known', () => {
    record.service = null;
    expect(parsed()).toMatchObject({
      policy: null,
      rule: null,
      reason: null,
      service: null,
      originalDestination: null,
      tls: null,
      userAgent: null,
      requestId: null,
      traceId: null,
      userPrincipal: null,
      upstreamMs: null,
      ttfbMs: null,
    });
  });

  test('tells the decision in full: audit, dry run and provider where there are any', () => {
    const dryRun = { allow: null, deny: 'deny', allowPolicy: null, denyPolicy: 'shop/try' } as const;
    record.decision = decision({ audit: ['shop/watch'], dryRun, provider: 'opa', reason: 'custom-policy' });
    expect(parsed()).toMatchObject({ audit: ['shop/watch'], dryRun, provider: 'opa' });
  });

  test('leaves out audit, dry run and provider where there are none', () => {
    record.decision = decision();
    expect(Object.keys(parsed())).not.toEqual(expect.arrayContaining([expect.stringMatching(/audit|dryRun|provider/)]));
  });

  test('is one line of JSON, whatever a client sends', () => {
    const latin1 = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) });
    fc.assert(
      fc.property(latin1, latin1, latin1, (path, userAgent, detail) => {
        Object.assign(record, { path, userAgent, detail });
        const line = requestLine(record, UNIX_NOW);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
        expect(line.slice(0, -1)).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
        expect(line.endsWith('\n')).toBe(true);
        expect(JSON.parse(line)).toMatchObject({ path, userAgent, detail });
      }),
    );
  });

  test('bounds each text of a client’s to 1,024 characters', () => {
    const long = 'x'.repeat(5000);
    Object.assign(record, { method: long, path: long, authority: long, userAgent: long, requestId: long });
    for (const field of ['method', 'path', 'authority', 'userAgent', 'requestId']) {
      expect(parsed()[field]).toHaveLength(1024);
    }
  });
});

test.each([
  ['plain', '"plain"'],
  ['', '""'],
  ['say "hi"', '"say \\"hi\\""'],
  ['back\\slash', '"back\\\\slash"'],
  ['a\nb', '"a\\nb"'],
  ['\x1b[31m', '"\\u001b[31m"'],
  ['\x9b31m', '"\\u009b31m"'],
  ['\x7f', '"\\u007f"'],
  ['é', '"é"'],
])('%j is quoted as %s', (text, quoted) => {
  expect(quote(text)).toBe(quoted);
});
