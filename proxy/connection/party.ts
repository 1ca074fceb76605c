import type { ServiceResource, WorkloadResource } from '../../mesh/resources.ts';
import type { Baggage } from '../protocol/baggage.ts';

const UNKNOWN = 'unknown';

/** One side of a connection, as telemetry tells of it. Immutable and shared by all connections of the same side. Unknown text is `unknown`. */
export interface Party {
  readonly workload: string;
  readonly namespace: string;
  /** SPIFFE ID; null where the party did not show one in the TLS handshake. */
  readonly principal: string | null;
  readonly app: string;
  readonly version: string;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
  readonly cluster: string;
  /** Stands for all of the above in the key of a series. */
  readonly key: string;
}

function newParty(facts: Omit<Party, 'key'>): Party {
  const { workload, namespace, principal, app, version, canonicalService, canonicalRevision, cluster } = facts;
  const key = [workload, namespace, principal, app, version, canonicalService, canonicalRevision, cluster].join('|');
  return { ...facts, key };
}

const NOBODY: Omit<Party, 'key' | 'principal'> = {
  workload: UNKNOWN,
  namespace: UNKNOWN,
  app: UNKNOWN,
  version: UNKNOWN,
  canonicalService: UNKNOWN,
  canonicalRevision: UNKNOWN,
  cluster: UNKNOWN,
};

const STRANGER = newParty({ ...NOBODY, principal: null });

/** The last parties made of each workload, with a principal and without: mostly the next connection wants the same. Resources are immutable. */
const lastNamed = new WeakMap<WorkloadResource, Party>();
const lastAnonymous = new WeakMap<WorkloadResource, Party>();

/** @param workload null: not in the registry @param principal SPIFFE ID; null: it has shown none */
export function partyOf(workload: WorkloadResource | null, principal: string | null): Party {
  if (workload === null) return principal === null ? STRANGER : newParty({ ...NOBODY, principal });
  const lastOf = principal === null ? lastAnonymous : lastNamed;
  const last = lastOf.get(workload);
  if (last?.principal === principal) return last;
  const { workloadName, namespace, app, version, canonicalService, canonicalRevision, cluster } = workload;
  const made = newParty({
    workload: workloadName,
    namespace,
    principal,
    app,
    version,
    canonicalService,
    canonicalRevision,
    cluster,
  });
  lastOf.set(workload, made);
  return made;
}

/** A caller that only told of itself in the tunnel's baggage; its namespace comes from its certificate. */
export function partyOfCaller(baggage: Baggage, namespace: string, principal: string): Party {
  const { workloadName, canonicalService, canonicalRevision, cluster } = baggage;
  return newParty({
    workload: workloadName,
    namespace,
    principal,
    app: canonicalService,
    version: canonicalRevision,
    canonicalService,
    canonicalRevision,
    cluster,
  });
}

/** A service as Istio's labels name it. */
export interface ServiceFacts {
  readonly hostname: string;
  readonly name: string;
  readonly namespace: string;
}

const factsOf = new WeakMap<ServiceResource, ServiceFacts>();

export function serviceFacts(service: ServiceResource): ServiceFacts {
  const known = factsOf.get(service);
  if (known !== undefined) return known;
  const { hostname, name, namespace } = service;
  const made = { hostname, name: name.slice(name.indexOf('/') + 1), namespace };
  factsOf.set(service, made);
  return made;
}

/** Istio's labels of who spoke to whom. For new series only: a connection or request has none made for itself. */
export function partyLabels(
  source: Party,
  destination: Party,
  service: ServiceFacts | null,
): { readonly [label: string]: string } {
  return {
    source_workload: source.workload,
    source_workload_namespace: source.namespace,
    source_principal: source.principal ?? UNKNOWN,
    source_app: source.app,
    source_version: source.version,
    source_canonical_service: source.canonicalService,
    source_canonical_revision: source.canonicalRevision,
    source_cluster: source.cluster,
    destination_workload: destination.workload,
    destination_workload_namespace: destination.namespace,
    destination_principal: destination.principal ?? UNKNOWN,
    destination_app: destination.app,
    destination_version: destination.version,
    destination_service: service?.hostname ?? UNKNOWN,
    destination_service_name: service?.name ?? UNKNOWN,
    destination_service_namespace: service?.namespace ?? UNKNOWN,
    destination_canonical_service: destination.canonicalService,
    destination_canonical_revision: destination.canonicalRevision,
    destination_cluster: destination.cluster,
  };
}
