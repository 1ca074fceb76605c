import type { ServiceResource, WorkloadResource } from '../../../../mesh/resources.ts';
import type { Decision } from '../../../../policy/types.ts';
import type { DataPlane } from '../../../../proxy/connection/data-plane.ts';
import { type Party, partyOf, serviceFacts } from '../../../../proxy/connection/party.ts';
import { RequestRecord } from '../../../../proxy/connection/request-record.ts';
import { workloadResource } from '../../support/workload-resource.ts';

export const workload = (name: string): WorkloadResource => workloadResource(name, '10.0.0.1');

export const party = (name: string): Party => partyOf(workload(name), `spiffe://cluster.local/ns/shop/sa/${name}`);

const orders: ServiceResource = {
  kind: 'Service',
  name: 'shop/orders',
  namespace: 'shop',
  hostname: 'orders.shop.svc.cluster.local',
  addresses: [],
  ports: [],
  endpoints: [],
};

export const SERVICE = serviceFacts(orders);

export function decision(change: Partial<Decision> = {}): Decision {
  return {
    allowed: true,
    policy: null,
    rule: null,
    reason: 'default-allow',
    audit: [],
    provider: null,
    dryRun: { allow: null, deny: null, allowPolicy: null, denyPolicy: null },
    ...change,
  };
}

export const FRONTEND = party('frontend');
export const ORDERS = party('orders');

/** A request from frontend to orders as the paths make its record; the answer is 200. */
export function request(
  plane: DataPlane,
  direction: 'inbound' | 'outbound' = 'inbound',
  source = FRONTEND,
): RequestRecord {
  const from = { address: '10.0.0.7', port: 40_000 };
  const record = new RequestRecord(plane, direction, source, from, ORDERS, { address: '10.0.0.8', port: 8080 });
  record.service = SERVICE;
  record.transport = 'hbone';
  record.method = 'GET';
  record.path = '/orders/1';
  record.authority = 'orders.shop:8080';
  record.status = 200;
  record.attempts = 1;
  return record;
}
