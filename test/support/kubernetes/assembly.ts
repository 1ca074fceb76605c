import { AdmissionWebhooks, type ServiceTargets } from './admission.ts';
import { ApiServer } from './api-server.ts';
import { Authentication } from './authentication.ts';
import { BUILT_IN_TYPES } from './built-in-types.ts';
import { ClusterAuthority } from './certificates.ts';
import { EndpointSlices } from './controllers/endpoint-slices.ts';
import { GarbageCollector } from './controllers/garbage.ts';
import { Namespaces } from './controllers/namespaces.ts';
import { CustomTypes } from './custom-types.ts';
import { DirectStore } from './direct-store.ts';
import { Discovery } from './discovery.ts';
import { Faults } from './faults.ts';
import { Lists } from './lists.ts';
import { Rbac } from './rbac.ts';
import { ResourceRequests } from './resource-requests.ts';
import { Reviews } from './reviews.ts';
import { ServiceAddresses } from './service-addresses.ts';
import { Store } from './store.ts';
import { ServiceAccountTokens } from './tokens.ts';
import { TypeRegistry } from './type-registry.ts';
import { Watches } from './watches.ts';
import { Writes } from './writes.ts';

export interface StandInOptions {
  /** Where it listens; default 127.0.0.1. */
  readonly address?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Host names and IPv4 addresses that its certificate holds beside 127.0.0.1 and its names in a cluster. */
  readonly hosts?: readonly string[];
  /** Of Kubernetes that it claims to be; default 1.32. */
  readonly version?: { readonly major: number; readonly minor: number };
  /** Groups and versions, `certificates.k8s.io/v1beta1`, that this cluster does not serve. */
  readonly notServed?: readonly string[];
  /** All on by default. */
  readonly controllers?: {
    readonly namespaces?: boolean;
    readonly endpointSlices?: boolean;
    readonly garbage?: boolean;
  };
  /** Milliseconds by which the server's clock is ahead from the start; default 0. See `StandInCluster.skewClock`. */
  readonly skewMs?: number;
  /** Milliseconds between bookmarks; default 1000, upstream a minute. */
  readonly bookmarkMs?: number;
  /** Changes of each kind that a watch can go back; default 20,000. */
  readonly historyLength?: number;
  /** Where webhooks' services are: `<namespace>/<service>` → `host:port`. May grow later: `cluster.services`. */
  readonly services?: { readonly [service: string]: string };
}

/** What a cluster is made of. */
export interface ClusterParts {
  readonly store: Store;
  readonly types: TypeRegistry;
  readonly addresses: ServiceAddresses;
  readonly tokens: ServiceAccountTokens;
  readonly authentication: Authentication;
  readonly authority: ClusterAuthority;
  readonly faults: Faults;
  readonly watches: Watches;
  readonly lists: Lists;
  readonly server: ApiServer;
  readonly services: ServiceTargets;
  readonly goneAs: { value: 'status' | 'event' };
  readonly skew: { value: number };
}

const HOSTS = ['127.0.0.1', '10.96.0.1', 'localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];

/** Subscribers are called in the order in which they subscribed: kinds come before those who watch them. */
export function assemble(options: StandInOptions): ClusterParts {
  const store = new Store(options.historyLength ?? 20_000);
  const types = new TypeRegistry(
    BUILT_IN_TYPES.filter(({ group, version }) => options.notServed?.includes(`${group}/${version}`) !== true),
  );
  new CustomTypes(store, types);
  const addresses = new ServiceAddresses(store);
  const { namespaces = true, endpointSlices = true, garbage = true } = options.controllers ?? {};
  const direct = new DirectStore(store, types, addresses);
  if (namespaces) new Namespaces(store, direct);
  if (endpointSlices) new EndpointSlices(store, direct);
  if (garbage) new GarbageCollector(store, direct);
  const skew = { value: options.skewMs ?? 0 };
  const now = (): number => Date.now() + skew.value;
  const goneAs: { value: 'status' | 'event' } = { value: 'event' };
  const faults = new Faults();
  const tokens = new ServiceAccountTokens(store, now);
  const authentication = new Authentication(tokens);
  const rbac = new Rbac(store);
  const lists = new Lists(store);
  const watches = new Watches(store, {
    bookmarkMs: options.bookmarkMs ?? 1000,
    goneAs: () => goneAs.value,
    isPaused: () => faults.isPaused,
  });
  const services: ServiceTargets = new Map(Object.entries(options.services ?? {}));
  const writes = new Writes(store, addresses, new AdmissionWebhooks(store, types, services), now);
  const reviews = new Reviews({ authentication, rbac, tokens, store });
  const resources = new ResourceRequests({ store, lists, watches, writes, reviews, rbac });
  const discovery = new Discovery(types, options.version ?? { major: 1, minor: 32 });
  const authority = new ClusterAuthority();
  const server = new ApiServer(
    { types, authentication, rbac, tokens, discovery, resources, faults },
    { ...authority.server([...HOSTS, ...(options.hosts ?? [])]), ca: authority.certificate },
  );
  return {
    store,
    types,
    addresses,
    tokens,
    authentication,
    authority,
    faults,
    watches,
    lists,
    server,
    services,
    goneAs,
    skew,
  };
}
