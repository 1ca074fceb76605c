import { type SpiffeId, spiffeId } from '../../mesh/spiffe-id.ts';

/**
 * The control plane's own identity, which sidecars and other replicas expect of it.
 *
 * NEVER does a workload get a certificate for it, whatever it has proven: who holds one is the control plane to every sidecar.
 */
const NAMESPACE = 'postern-system';
const SERVICE_ACCOUNT = 'control-plane';

export const controlPlaneIdentity = (trustDomain: string): SpiffeId =>
  spiffeId(trustDomain, NAMESPACE, SERVICE_ACCOUNT);

/** Whether these name the identity that is reserved for the control plane. */
export const isControlPlane = (subject: { readonly namespace: string; readonly serviceAccount: string }): boolean =>
  subject.namespace === NAMESPACE && subject.serviceAccount === SERVICE_ACCOUNT;
