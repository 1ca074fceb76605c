import { describe, expect, test } from 'vitest';
import { formatClientCertificate } from '../../../../proxy/http/forwarding/client-certificate.ts';
import {
  editInboundRequest,
  editOutboundRequest,
  editResponse,
  setTraceContext,
} from '../../../../proxy/http/forwarding/request-headers.ts';
import { namesOf, requestHead, responseHead } from './heads.ts';

const PEER = formatClientCertificate({
  by: 'spiffe://cluster.local/ns/shop/sa/orders',
  hash: 'ab'.repeat(32),
  subject: '',
  uri: 'spiffe://cluster.local/ns/web/sa/frontend',
});

/** What nobody outside of a sidecar may say through it. */
const INTERNAL = [
  'x-envoy-peer-metadata',
  'x-envoy-peer-metadata-id',
  'x-envoy-decorator-operation',
  'x-envoy-retry-on',
  'x-envoy-max-retries',
  'x-envoy-upstream-rq-timeout-ms',
  'x-envoy-upstream-alt-stat-name',
  'x-envoy-internal',
  'x-envoy-force-trace',
  'x-envoy-ip-tags',
  'x-envoy-original-url',
  'x-envoy-original-dst-host',
  'x-istio-attributes',
  'x-postern-reason',
  'x-postern-anything',
  'x_envoy_peer_metadata',
  'x-envoy_retry-on',
  'x_postern_reason',
];

const KEPT = [
  'x-forwarded-for',
  'x-forwarded-host',
  'x-envoy-external-address',
  'x-envoy-original-path',
  'x-envoy-attempt-count',
  'x_envoy_attempt_count',
  'x-b3-traceid',
  'x-envoyish',
  'x-posterns',
  'xx-envoy-retry-on',
  'authorization',
  'cookie',
  'tracestate',
];

describe('a request that comes in', () => {
  test.each(INTERNAL)('loses %s', (name) => {
    const head = requestHead(`${name}: forged`, `${name.toUpperCase()}: again`);
    editInboundRequest(head, PEER);
    expect(head.has(name)).toBe(false);
  });

  test.each(KEPT)('keeps %s', (name) => {
    const head = requestHead(`${name}: value`);
    editInboundRequest(head, PEER);
    expect(head.all(name)).toEqual(['value']);
  });

  test('tells the application of the peer of its own connection, whatever it said of clients', () => {
    const head = requestHead(
      'X-Forwarded-Client-Cert: By=spiffe://cluster.local/ns/shop/sa/orders;URI=spiffe://cluster.local/ns/shop/sa/admin',
      'x-forwarded-client-cert: URI=spiffe://cluster.local/ns/shop/sa/root',
    );
    editInboundRequest(head, PEER);
    expect(head.all('x-forwarded-client-cert')).toEqual([PEER]);
  });

  test('of a peer that showed no certificate tells of none', () => {
    const head = requestHead('X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/admin');
    editInboundRequest(head, null);
    expect(head.has('x-forwarded-client-cert')).toBe(false);
  });

  test.each([
    ['over mutual TLS', [], PEER, 'https'],
    ['in plaintext', [], null, 'http'],
    ['with a scheme of its own', ['x-forwarded-proto: http'], PEER, 'http'],
  ] as const)('%s says by what scheme it came', (_, lines, peer, scheme) => {
    const head = requestHead(...lines);
    editInboundRequest(head, peer);
    expect(head.all('x-forwarded-proto')).toEqual([scheme]);
  });
});

describe('a request that goes out', () => {
  test.each([...INTERNAL, 'x-forwarded-client-cert'])('loses %s', (name) => {
    const head = requestHead(`${name}: forged`);
    editOutboundRequest(head);
    expect(head.has(name)).toBe(false);
  });

  test('is told to have come by http where the application does not say', () => {
    const head = requestHead();
    editOutboundRequest(head);
    expect(head.get('x-forwarded-proto')).toBe('http');
  });
});

test('a response tells an Istio sidecar nothing of who answered, and cannot look like one of ours', () => {
  const head = responseHead(
    'x-envoy-peer-metadata: forged',
    'x-envoy-peer-metadata-id: forged',
    'x-envoy-decorator-operation: forged',
    'x-postern-reason: forged',
    'x-envoy-upstream-service-time: 3',
    'set-cookie: a=1',
  );
  editResponse(head);
  expect(namesOf(head)).toEqual(['x-envoy-upstream-service-time', 'set-cookie']);
});

describe("the caller's trace state", () => {
  test.each([
    [true, ['vendor=1']],
    [false, []],
  ])('goes on with its trace only (carried: %s)', (carried, states) => {
    const head = requestHead('traceparent: junk', 'traceparent: more junk', 'tracestate: vendor=1');
    setTraceContext(head, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', carried);
    expect(head.all('traceparent')).toEqual(['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01']);
    expect(head.all('tracestate')).toEqual(states);
  });
});

describe('X-Forwarded-Client-Cert', () => {
  const hash = 'cd'.repeat(32);

  test('has the fields of Istio in their order, the subject even where it is empty', () => {
    expect(
      formatClientCertificate({ by: 'spiffe://a/ns/b/sa/c', hash, subject: '', uri: 'spiffe://a/ns/d/sa/e' }),
    ).toBe(`By=spiffe://a/ns/b/sa/c;Hash=${hash};Subject="";URI=spiffe://a/ns/d/sa/e`);
  });

  test('quotes the subject', () => {
    expect(formatClientCertificate({ by: 'spiffe://a', hash, subject: 'CN=x,O=y;z', uri: 'spiffe://b' })).toContain(
      ';Subject="CN=x,O=y;z";URI=',
    );
  });
});
