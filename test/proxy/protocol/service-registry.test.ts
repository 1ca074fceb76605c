import { describe, expect, test } from 'vitest';
import { workloadResource } from '../support/workload-resource.ts';
import { one, service, two, upsert, viewOf } from './mesh-fixtures.ts';

describe('where an outbound connection goes', () => {
  test('a virtual IP and port of a service: its endpoints with their own ports', () => {
    const found = viewOf(one, two, service('orders')).registry.lookupOutbound('10.96.0.1', 80);
    expect(found).toMatchObject({ kind: 'service', port: { port: 80 }, service: { name: 'shop/orders' } });
    expect(found.kind === 'service' && found.endpoints).toMatchObject([
      {
        name: 'shop/orders-1',
        address: '10.0.0.1',
        port: 8080,
        protocol: 'HBONE',
        tunnel: { address: '10.0.0.1', port: 15008 },
      },
      { name: 'shop/orders-2', address: '10.0.0.2', port: 8080 },
    ]);
  });

  test('an address of a workload: that workload at that port', () => {
    const view = viewOf(one, two, service('orders'));
    const found = view.registry.lookupOutbound('10.0.0.2', 9999);
    expect(found).toMatchObject({ kind: 'workload', port: 9999, endpoint: { name: 'shop/orders-2', port: 9999 } });
    expect(view.registry.lookupOutbound('10.0.0.2', 9999)).toBe(found);
  });

  test('an IPv4-mapped address is the IPv4 address', () => {
    expect(viewOf(one).registry.lookupOutbound('::ffff:10.0.0.1', 1).kind).toBe('workload');
  });

  test('IPv6 is found however the control plane wrote it', () => {
    const view = viewOf(workloadResource('six', 'FD00:0:0::0:1'), service('orders', { addresses: ['fd00::0:aa'] }));
    expect(view.registry.lookupOutbound('fd00::1', 1).kind).toBe('workload');
    expect(view.registry.lookupOutbound('fd00::aa', 80).kind).toBe('service');
  });

  test.each([
    ['a port that the virtual IP does not have', '10.96.0.1', 81],
    ['an address of nobody', '192.0.2.1', 80],
  ])('%s is unknown', (_, ip, port) => {
    expect(viewOf(one, two, service('orders')).registry.lookupOutbound(ip, port)).toEqual({ kind: 'unknown' });
  });

  test('a port where the workload wants plaintext has no tunnel', () => {
    const view = viewOf(workloadResource('orders-1', '10.0.0.1', { plaintextPorts: [9000] }));
    expect(view.registry.lookupOutbound('10.0.0.1', 9000)).toMatchObject({
      endpoint: { protocol: 'NONE', tunnel: null },
    });
    expect(view.registry.lookupOutbound('10.0.0.1', 9001)).toMatchObject({ endpoint: { protocol: 'HBONE' } });
  });

  test('an address claimed twice is the latest claimant’s, and goes back when that one leaves', () => {
    const view = viewOf(one, workloadResource('orders-9', '10.0.0.1'));
    expect(view.registry.workloadAt('10.0.0.1')?.name).toBe('shop/orders-9');
    view.applyDelta({ full: false, upserts: [], removes: ['Workload/shop/orders-9'] });
    expect(view.registry.workloadAt('10.0.0.1')?.name).toBe('shop/orders-1');
  });

  test('a port scan of a workload leaves a bounded number of cached destinations, and right answers', () => {
    const view = viewOf(one);
    for (let port = 1; port < 3000; port++)
      expect(view.registry.lookupOutbound('10.0.0.1', port)).toMatchObject({ port });
  });
});

test('a port of a workload is known by the service that it serves, the first by name where there are several', () => {
  const view = viewOf(one, two, service('orders'));
  expect(view.registry.serviceServing('shop/orders-1', 8080)?.name).toBe('shop/orders');
  expect(upsert(view, service('also', { addresses: [] }))).toEqual([]);
  expect(view.registry.serviceServing('shop/orders-1', 8080)?.name).toBe('shop/also');
  expect(view.registry.serviceServing('shop/orders-1', 9999)).toBeNull();
  expect(view.registry.serviceServing('shop/nobody', 8080)).toBeNull();
});

test('a service of another namespace that leads to a workload does not say what its ports speak', () => {
  const view = viewOf(one, two, service('orders', { ports: [{ name: 'http', port: 80, protocol: 'http' }] }));
  const foreign = { name: 'aaa/evil', namespace: 'aaa', addresses: [] };
  expect(upsert(view, service('evil', foreign))).toEqual([]);
  expect(view.registry.protocolServed('shop/orders-1', 8080)).toBe('http');
  expect(view.registry.serviceServing('shop/orders-1', 8080)?.name).toBe('shop/orders');
  view.applyDelta({ full: false, upserts: [], removes: ['Service/shop/orders'] });
  expect(view.registry.protocolServed('shop/orders-1', 8080)).toBeNull();
  expect(view.registry.serviceServing('shop/orders-1', 8080)).toBeNull();
});

describe('a destination that was looked up before', () => {
  test('is the same object while nothing that concerns it changes', () => {
    const view = viewOf(one, two, service('orders'));
    const before = view.registry.service('shop/orders', 80);
    upsert(view, workloadResource('other', '10.0.0.7'));
    expect(view.registry.service('shop/orders', 80)).toBe(before);
    expect(view.registry.lookupOutbound('10.96.0.1', 80)).toBe(before);
  });

  test('has a higher version once a workload behind it changed, left or came', () => {
    const view = viewOf(one, service('orders'));
    const versions = [view.registry.service('shop/orders', 80)?.version];
    const endpointNames = (): (string | undefined)[] | undefined =>
      view.registry.service('shop/orders', 80)?.endpoints.map(({ name }) => name);
    upsert(view, two);
    expect(endpointNames()).toEqual(['shop/orders-1', 'shop/orders-2']);
    versions.push(view.registry.service('shop/orders', 80)?.version);
    view.applyDelta({ full: false, upserts: [], removes: ['Workload/shop/orders-1'] });
    expect(endpointNames()).toEqual(['shop/orders-2']);
    versions.push(view.registry.service('shop/orders', 80)?.version);
    upsert(view, workloadResource('orders-2', '10.0.0.22'));
    versions.push(view.registry.service('shop/orders', 80)?.version);
    expect(versions).toEqual([...new Set(versions)].sort((a = 0, b = 0) => a - b));
    expect(versions).toHaveLength(4);
  });

  test('is gone with its service', () => {
    const view = viewOf(one, service('orders'));
    view.applyDelta({ full: false, upserts: [], removes: ['Service/shop/orders'] });
    expect(view.registry.service('shop/orders', 80)).toBeNull();
    expect(view.registry.lookupOutbound('10.96.0.1', 80)).toEqual({ kind: 'unknown' });
  });

  test('a replaced service gives up the addresses it no longer has', () => {
    const view = viewOf(one, service('orders'));
    upsert(view, service('orders', { addresses: ['10.96.0.2'] }));
    expect(view.registry.lookupOutbound('10.96.0.1', 80).kind).toBe('unknown');
    expect(view.registry.lookupOutbound('10.96.0.2', 80).kind).toBe('service');
  });
});

test('a workload on its node’s network is dialled, but nobody is taken for it by that address', () => {
  const onNode = workloadResource('orders-1', '10.0.0.1', { protocol: 'NONE', identity: null, hostNetwork: true });
  const view = viewOf(onNode, service('orders'));
  expect(view.registry.workloadAt('10.0.0.1')).toBeNull();
  expect(view.registry.lookupOutbound('10.0.0.1', 22).kind).toBe('unknown');
  expect(view.registry.service('shop/orders', 80)?.endpoints).toMatchObject([
    { address: '10.0.0.1', protocol: 'NONE' },
  ]);
  upsert(view, workloadResource('pod', '10.0.0.1'));
  view.applyDelta({ full: false, upserts: [], removes: ['Workload/shop/orders-1'] });
  expect(view.registry.workloadAt('10.0.0.1')?.name).toBe('shop/pod');
});

describe('what lies outside the registry', () => {
  const outside = service('example.com', {
    addresses: [],
    endpoints: [],
    passthrough: ['192.0.2.0/24', '2001:db8::1'],
  });

  test.each([
    ['192.0.2.7', 80, true],
    ['192.0.2.7', 443, false],
    ['192.0.3.7', 80, false],
    ['::ffff:192.0.2.7', 80, true],
    ['2001:db8::1', 80, true],
    ['2001:db8::2', 80, false],
  ])('%s port %d may be reached as a service says: %s', (ip, port, expected) => {
    expect(viewOf(outside).registry.mayPass(ip, port)).toBe(expected);
  });

  test('is closed again with its service', () => {
    const view = viewOf(outside);
    upsert(view, service('example.com', { addresses: [], endpoints: [] }));
    expect(view.registry.mayPass('192.0.2.7', 80)).toBe(false);
    upsert(view, outside);
    view.applyDelta({ full: false, upserts: [], removes: ['Service/shop/example.com'] });
    expect(view.registry.mayPass('192.0.2.7', 80)).toBe(false);
  });

  test('is not opened by what is no block', () => {
    expect(upsert(viewOf(), { ...outside, passthrough: ['everywhere'] })).toHaveLength(1);
  });
});
