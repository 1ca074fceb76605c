import { type Column, type ServedType, servedType } from './type-registry.ts';

interface Extra {
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly subresources?: readonly string[];
  readonly verbs?: readonly string[];
  readonly columns?: readonly Column[];
  readonly storage?: string;
}

const CREATE_ONLY = { verbs: ['create'] } as const;
const STATUS = ['status'] as const;

const column = (name: string, path: string, type = 'string', priority = 0): Column => ({ name, path, type, priority });
const AGE = column('Age', '.metadata.creationTimestamp', 'date');

const namespaced = (groupVersion: string, kind: string, plural: string, extra: Extra = {}): ServedType =>
  builtIn(groupVersion, kind, plural, true, extra);
const cluster = (groupVersion: string, kind: string, plural: string, extra: Extra = {}): ServedType =>
  builtIn(groupVersion, kind, plural, false, extra);

function builtIn(groupVersion: string, kind: string, plural: string, isNamespaced: boolean, extra: Extra): ServedType {
  const [group = '', version = ''] = groupVersion.includes('/') ? groupVersion.split('/') : ['', groupVersion];
  return servedType(
    { group, version, kind, plural, namespaced: isNamespaced },
    { ...extra, subresources: extra.subresources ?? [] },
  );
}

const RBAC = 'rbac.authorization.k8s.io/v1';
const ADMISSION = 'admissionregistration.k8s.io/v1';

/** What every cluster serves, as far as anything of ours touches it. `pods` and `services` have table columns of their own: tables.ts. */
export const BUILT_IN_TYPES: readonly ServedType[] = [
  cluster('v1', 'Namespace', 'namespaces', {
    shortNames: ['ns'],
    subresources: STATUS,
    columns: [column('Status', '.status.phase'), AGE],
  }),
  cluster('v1', 'Node', 'nodes', { shortNames: ['no'], subresources: STATUS }),
  namespaced('v1', 'Pod', 'pods', { categories: ['all'], shortNames: ['po'], subresources: STATUS }),
  namespaced('v1', 'Service', 'services', { categories: ['all'], shortNames: ['svc'], subresources: STATUS }),
  namespaced('v1', 'ServiceAccount', 'serviceaccounts', { shortNames: ['sa'], subresources: ['token'] }),
  namespaced('v1', 'Secret', 'secrets', { columns: [column('Type', '.type'), AGE] }),
  namespaced('v1', 'ResourceQuota', 'resourcequotas', { shortNames: ['quota'], subresources: STATUS }),
  namespaced('v1', 'ConfigMap', 'configmaps', { shortNames: ['cm'] }),
  namespaced('v1', 'Endpoints', 'endpoints', { shortNames: ['ep'] }),
  namespaced('v1', 'Event', 'events', {
    storage: 'events.k8s.io/events',
    shortNames: ['ev'],
    columns: [
      column('Type', '.type'),
      column('Reason', '.reason'),
      column('Object', '.involvedObject.name'),
      column('Message', '.message'),
    ],
  }),
  namespaced('events.k8s.io/v1', 'Event', 'events', { shortNames: ['ev'] }),
  namespaced('apps/v1', 'Deployment', 'deployments', {
    categories: ['all'],
    shortNames: ['deploy'],
    subresources: STATUS,
    columns: [
      column('Ready', '.status.readyReplicas', 'integer'),
      column('Up-to-date', '.status.updatedReplicas', 'integer'),
      column('Available', '.status.availableReplicas', 'integer'),
      AGE,
    ],
  }),
  namespaced('apps/v1', 'ReplicaSet', 'replicasets', { categories: ['all'], shortNames: ['rs'], subresources: STATUS }),
  namespaced('apps/v1', 'StatefulSet', 'statefulsets', {
    categories: ['all'],
    shortNames: ['sts'],
    subresources: STATUS,
  }),
  namespaced('apps/v1', 'DaemonSet', 'daemonsets', { categories: ['all'], shortNames: ['ds'], subresources: STATUS }),
  namespaced('batch/v1', 'Job', 'jobs', { categories: ['all'], subresources: STATUS }),
  namespaced('batch/v1', 'CronJob', 'cronjobs', { categories: ['all'], shortNames: ['cj'], subresources: STATUS }),
  namespaced('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets', { shortNames: ['pdb'], subresources: STATUS }),
  namespaced('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies', { shortNames: ['netpol'] }),
  namespaced('autoscaling/v2', 'HorizontalPodAutoscaler', 'horizontalpodautoscalers', {
    shortNames: ['hpa'],
    subresources: STATUS,
  }),
  namespaced('discovery.k8s.io/v1', 'EndpointSlice', 'endpointslices', {
    columns: [column('AddressType', '.addressType'), column('Endpoints', '.endpoints[*].addresses[*]'), AGE],
  }),
  namespaced('coordination.k8s.io/v1', 'Lease', 'leases', { columns: [column('Holder', '.spec.holderIdentity'), AGE] }),
  cluster('storage.k8s.io/v1', 'StorageClass', 'storageclasses', { shortNames: ['sc'] }),
  cluster('scheduling.k8s.io/v1', 'PriorityClass', 'priorityclasses', { shortNames: ['pc'] }),
  cluster(RBAC, 'ClusterRole', 'clusterroles'),
  cluster(RBAC, 'ClusterRoleBinding', 'clusterrolebindings'),
  namespaced(RBAC, 'Role', 'roles'),
  namespaced(RBAC, 'RoleBinding', 'rolebindings'),
  cluster(ADMISSION, 'MutatingWebhookConfiguration', 'mutatingwebhookconfigurations'),
  cluster(ADMISSION, 'ValidatingWebhookConfiguration', 'validatingwebhookconfigurations'),
  cluster('apiextensions.k8s.io/v1', 'CustomResourceDefinition', 'customresourcedefinitions', {
    shortNames: ['crd', 'crds'],
    subresources: STATUS,
    columns: [column('Created At', '.metadata.creationTimestamp')],
  }),
  cluster('certificates.k8s.io/v1beta1', 'ClusterTrustBundle', 'clustertrustbundles', {
    columns: [column('SignerName', '.spec.signerName')],
  }),
  cluster('authentication.k8s.io/v1', 'TokenReview', 'tokenreviews', CREATE_ONLY),
  cluster('authentication.k8s.io/v1', 'SelfSubjectReview', 'selfsubjectreviews', CREATE_ONLY),
  cluster('authorization.k8s.io/v1', 'SelfSubjectAccessReview', 'selfsubjectaccessreviews', CREATE_ONLY),
  cluster('authorization.k8s.io/v1', 'SubjectAccessReview', 'subjectaccessreviews', CREATE_ONLY),
  cluster('authorization.k8s.io/v1', 'SelfSubjectRulesReview', 'selfsubjectrulesreviews', CREATE_ONLY),
];
