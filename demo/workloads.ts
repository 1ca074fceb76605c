/** The cast of the demo. */
export const NAMESPACE = 'shop';
export const TRUST_DOMAIN = 'cluster.local';

export const WORKLOAD_NAMES = ['frontend', 'orders', 'payments'] as const;
export type WorkloadName = (typeof WORKLOAD_NAMES)[number];

/** The port of every service, and where the redirected applications listen. */
export const SERVICE_PORT = 8080;

/** A request that the policies of manifests/demo let the right caller make. */
export const SAMPLE_PATHS: { readonly [name in WorkloadName]: string } = {
  frontend: '/',
  orders: '/',
  payments: '/payments/7',
};

/** clusterIPs of manifests/demo/services.yaml. */
export const CLUSTER_IPS: { readonly [name in WorkloadName]: string } = {
  frontend: '10.96.0.11',
  orders: '10.96.0.12',
  payments: '10.96.0.13',
};

/** Ports of a sidecar and of the control plane (Istio's conventions). */
export const PORTS = {
  admin: 15000,
  outbound: 15001,
  inbound: 15006,
  tunnel: 15008,
  controlPlane: 15012,
  controlPlaneAdmin: 15014,
  metrics: 15020,
  health: 15021,
} as const;

/** The user that redirection exempts. */
export const SIDECAR_UID = 1337;
/** What redirection exempts instead, where the sidecar cannot be a user of its own. */
export const SIDECAR_MARK = 1337;
