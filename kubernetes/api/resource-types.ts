import type { ResourceType } from './types.ts';

/** The kinds that Postern reads or writes. Its own are of version v1 from the start: the admission webhook refuses what the schema does not. */
export const TYPES = {
  Pod: type('', 'v1', 'Pod', 'pods'),
  Service: type('', 'v1', 'Service', 'services'),
  Namespace: clusterType('', 'v1', 'Namespace', 'namespaces'),
  Secret: type('', 'v1', 'Secret', 'secrets'),
  ConfigMap: type('', 'v1', 'ConfigMap', 'configmaps'),
  Event: type('events.k8s.io', 'v1', 'Event', 'events'),
  EndpointSlice: type('discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices'),
  Lease: type('coordination.k8s.io', 'v1', 'Lease', 'leases'),
  TokenReview: clusterType('authentication.k8s.io', 'v1', 'TokenReview', 'tokenreviews'),
  SelfSubjectAccessReview: clusterType(
    'authorization.k8s.io',
    'v1',
    'SelfSubjectAccessReview',
    'selfsubjectaccessreviews',
  ),
  MutatingWebhookConfiguration: clusterType(
    'admissionregistration.k8s.io',
    'v1',
    'MutatingWebhookConfiguration',
    'mutatingwebhookconfigurations',
  ),
  ValidatingWebhookConfiguration: clusterType(
    'admissionregistration.k8s.io',
    'v1',
    'ValidatingWebhookConfiguration',
    'validatingwebhookconfigurations',
  ),
  CustomResourceDefinition: clusterType(
    'apiextensions.k8s.io',
    'v1',
    'CustomResourceDefinition',
    'customresourcedefinitions',
  ),
  /** See `CLUSTER_TRUST_BUNDLE_VERSIONS`. */
  ClusterTrustBundle: clusterType('certificates.k8s.io', 'v1', 'ClusterTrustBundle', 'clustertrustbundles'),
  Deployment: type('apps', 'v1', 'Deployment', 'deployments'),
  AuthorizationPolicy: type('security.istio.io', 'v1', 'AuthorizationPolicy', 'authorizationpolicies'),
  PeerAuthentication: type('security.istio.io', 'v1', 'PeerAuthentication', 'peerauthentications'),
  RequestAuthentication: type('security.istio.io', 'v1', 'RequestAuthentication', 'requestauthentications'),
  WorkloadEntry: type('networking.istio.io', 'v1', 'WorkloadEntry', 'workloadentries'),
  ServiceEntry: type('networking.istio.io', 'v1', 'ServiceEntry', 'serviceentries'),
  MeshConfig: clusterType('postern.dev', 'v1', 'MeshConfig', 'meshconfigs'),
  Revocation: clusterType('postern.dev', 'v1', 'Revocation', 'revocations'),
} as const satisfies { readonly [kind: string]: ResourceType };

/** Best first; a cluster may have none of them. */
export const CLUSTER_TRUST_BUNDLE_VERSIONS = ['v1', 'v1beta1', 'v1alpha1'] as const;

function type(group: string, version: string, kind: string, plural: string): ResourceType {
  return { group, version, kind, plural, namespaced: true };
}

function clusterType(group: string, version: string, kind: string, plural: string): ResourceType {
  return { ...type(group, version, kind, plural), namespaced: false };
}
