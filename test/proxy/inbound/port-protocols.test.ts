import { describe, expect, test } from 'vitest';
import type { Resource, ServiceResource } from '../../../mesh/resources.ts';
import { PortProtocols } from '../../../proxy/inbound/port-protocols.ts';
import { MeshView } from '../../../proxy/protocol/mesh-view.ts';
import { workloadResource } from '../support/workload-resource.ts';

const ADDRESS = '10.0.0.1';

const workload = workloadResource('orders-1', ADDRESS);

/** @param ports service port, workload port and declared protocol */
function service(name: string, ports: readonly (readonly [number, number, string | null])[]): ServiceResource {
  return {
    kind: 'Service',
    name: `shop/${name}`,
    namespace: 'shop',
    hostname: `${name}.shop.svc.cluster.local`,
    addresses: [],
    ports: ports.map(([port, , protocol]) => ({ name: `p${port}`, port, protocol })),
    endpoints: [
      { workload: 'shop/orders-1', ports: Object.fromEntries(ports.map(([port, target]) => [String(port), target])) },
    ],
  };
}

function portsOf(...resources: readonly Resource[]) {
  const view = new MeshView(
    () => null,
    () => null,
  );
  const push = (...upserts: readonly Resource[]): void => {
    expect(view.applyDelta({ full: false, upserts, removes: [] })).toEqual([]);
  };
  push(workload, ...resources);
  const plane = { view, config: { opaquePorts: [3306] } } as unknown as ConstructorParameters<typeof PortProtocols>[0];
  const ports = new PortProtocols(plane);
  const at = (port: number, address = ADDRESS): string => {
    const { protocol, version } = ports.at({ address, port });
    return protocol === 'http' ? `${protocol} ${version}` : protocol;
  };
  return { at, push };
}

describe("the protocol of a workload's port", () => {
  test.each([
    ['http', 'http http/1'],
    ['http2', 'http h2'],
    ['grpc', 'http h2'],
    ['grpc-web', 'http http/1'],
    ['tcp', 'opaque'],
    ['mysql', 'opaque'],
    ['https', 'opaque'],
    [null, 'sniff'],
  ])('declared %s is %s', (declared, protocol) => {
    expect(portsOf(service('orders', [[80, 8080, declared]])).at(8080)).toBe(protocol);
  });

  test('is that of the port of the workload, not that of the service', () => {
    const { at } = portsOf(
      service('orders', [
        [80, 8080, 'http'],
        [8080, 9090, 'tcp'],
      ]),
    );
    expect([at(8080), at(9090), at(80)]).toEqual(['http http/1', 'opaque', 'sniff']);
  });

  test('of several services is what the first that declares one says', () => {
    const { at } = portsOf(
      service('c', [[80, 8080, 'tcp']]),
      service('b', [[80, 8080, 'http']]),
      service('a', [[80, 8080, null]]),
    );
    expect(at(8080)).toBe('http http/1');
  });

  test('that nobody declares is opaque where its number is in the list', () => {
    const { at } = portsOf();
    expect([at(3306), at(3307), at(3306, '10.9.9.9')]).toEqual(['opaque', 'sniff', 'opaque']);
  });

  test('follows the registry', () => {
    const { at, push } = portsOf(service('orders', [[80, 8080, 'tcp']]));
    expect(at(8080)).toBe('opaque');
    push(service('orders', [[80, 8080, 'http']]));
    expect(at(8080)).toBe('http http/1');
  });
});
