import type { RegisteredWorkload } from '../../../control-plane/registry/registrations.ts';
import type { RegistryInputs } from '../../../control-plane/registry/snapshot.ts';
import { readManifests } from '../../../control-plane/source/manifest-file.ts';
import type { WorkloadRegistration } from '../../../mesh/push.ts';
import type { Manifest } from '../../../policy/types.ts';

export const SETTINGS: RegistryInputs = {
  trustDomain: 'cluster.local',
  settings: {
    trustDomainAliases: [],
    rootNamespace: 'istio-system',
    outboundTrafficPolicy: 'ALLOW_ANY',
    defaultAction: 'ALLOW',
    pathNormalization: 'BASE',
    extensionProviders: [],
  },
  manifests: [],
  workloads: [],
  roots: ['root'],
  revoked: { spiffeIds: [], serials: [] },
  jwks: new Map(),
};

export function manifestsOf(text: string): readonly Manifest[] {
  const { manifests, problems } = readManifests(text, 'test.yaml');
  const errors = problems.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '));
  return manifests;
}

export function workloadOf(name: string, more: Partial<WorkloadRegistration> = {}): RegisteredWorkload {
  const workload = {
    name,
    namespace: 'shop',
    serviceAccount: 'default',
    labels: { app: name },
    addresses: [`10.0.0.${name.length}`],
    tunnel: null,
    ports: {},
    ...more,
  };
  return { workload, identity: `spiffe://cluster.local/ns/${workload.namespace}/sa/${workload.serviceAccount}` };
}
