import type { PolicyResource, Resource } from '../../../mesh/resources.ts';
import type { TcpAddress } from '../../support/apps.ts';
import { foreignAuthority, issueLeaf, type Signer } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import {
  type DataPlaneOptions,
  DataPlaneThread,
  meshConfig,
  serviceOf,
  TUNNEL_PORT,
  trustBundle,
} from '../support/data-plane.ts';
import { TunnelEntry } from '../support/tunnel-entry.ts';

export const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend';
/** The workload's port. */
export const PORT = 8080;

export type Undo = (() => Promise<unknown> | unknown)[];

export interface OrdersOptions extends Pick<DataPlaneOptions, 'limits' | 'http' | 'opaquePorts'> {
  /** By the service's port; null: it does not say. */
  readonly protocol?: string | null;
  /** Overrides of the mesh configuration. */
  readonly mesh?: Partial<Extract<Resource, { kind: 'MeshConfig' }>>;
}

/** The sidecar of a service, and a caller that Node's own HTTP/2 tunnels. */
export interface Orders {
  readonly plane: DataPlaneThread;
  readonly signer: Signer;
  /** Certificate of the caller, PEM. */
  readonly certificate: string;
  /** Where the caller dials. */
  readonly entry: TunnelEntry;
}

export async function startOrders(app: TcpAddress, undo: Undo, options: OrdersOptions = {}): Promise<Orders> {
  const { protocol = 'http', mesh = {}, ...rest } = options;
  const signer = foreignAuthority();
  const block = await LoopbackBlock.take();
  undo.push(() => block.release());
  const address = block.address();
  const application = { address: '127.0.0.1', port: app.port };
  const plane = await DataPlaneThread.start({
    name: 'orders',
    address,
    expose: [{ port: PORT, application }],
    ...rest,
  });
  undo.push(() => plane.stop());
  plane.identify(signer);
  const service = {
    ...serviceOf('orders', PORT, [plane.workload]),
    ports: [{ name: 'p', port: 80, protocol }],
  } as Resource;
  await plane.push({ ...meshConfig(), ...mesh } as Resource, trustBundle(signer), plane.workload, service);
  const identity = issueLeaf(signer, { uris: [FRONTEND] });
  const entry = await TunnelEntry.open({ address, port: TUNNEL_PORT }, identity, `${address}:${PORT}`);
  undo.push(() => entry.close());
  return { plane, signer, certificate: identity.cert, entry };
}

export interface Rule {
  readonly from?: readonly unknown[];
  readonly to?: readonly unknown[];
  readonly when?: readonly unknown[];
}

export function policy(name: string, action: 'ALLOW' | 'DENY', ...rules: readonly Rule[]): PolicyResource {
  return security('AuthorizationPolicy', name, { action, rules });
}

export function security(kind: PolicyResource['kind'], name: string, spec: object): PolicyResource {
  return {
    kind,
    name: `shop/${name}`,
    object: { apiVersion: 'security.istio.io/v1', kind, metadata: { name, namespace: 'shop' }, spec },
  };
}

export const operation = (methods: readonly string[], paths: readonly string[]): Rule => ({
  to: [{ operation: { methods, paths } }],
});
