import type { JsonObject } from '../../../../policy/types.ts';
import type { DirectStore } from '../direct-store.ts';
import { at, labelsOf, nameOf, namespaceOf, objectsAt, textAt, uidOf } from '../objects.ts';
import type { Store } from '../store.ts';
import { ServiceMembers } from './service-members.ts';
import { slicesOf } from './slices.ts';

const STORAGE = 'discovery.k8s.io/endpointslices';

/** Writes the slices of services with selectors, after each change of a pod or a service; in one go for all changes of one turn. */
export class EndpointSlices {
  readonly #store: Store;
  readonly #direct: DirectStore;
  readonly #members: ServiceMembers;
  /** `namespace/name` of services whose slices may be out of date. */
  readonly #dirty = new Set<string>();
  /** Names of the slices of each service. */
  readonly #written = new Map<string, ReadonlySet<string>>();
  #scheduled = false;

  constructor(store: Store, direct: DirectStore) {
    this.#store = store;
    this.#direct = direct;
    this.#members = new ServiceMembers(store, (namespace, name) => this.#mark(`${namespace}/${name}`));
  }

  #mark(place: string): void {
    this.#dirty.add(place);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const dirty = [...this.#dirty];
      this.#dirty.clear();
      for (const one of dirty) this.#reconcile(one);
    });
  }

  #reconcile(place: string): void {
    const [namespace = '', name = ''] = place.split('/');
    const found = this.#members.of(namespace, name);
    const wanted = found === null ? [] : namedSlices(found.service, found.pods.filter(hasEndpoint));
    const names = new Set(wanted.map(nameOf));
    for (const slice of wanted) {
      const present = this.#store.get(STORAGE, namespace, nameOf(slice))?.object;
      if (present === undefined || contentOf(present) !== contentOf(slice)) this.#direct.put(slice);
    }
    for (const old of this.#written.get(place) ?? []) {
      if (!names.has(old)) this.#store.remove(STORAGE, namespace, old);
    }
    if (names.size === 0) this.#written.delete(place);
    else this.#written.set(place, names);
  }
}

function namedSlices(service: JsonObject, pods: readonly JsonObject[]): readonly JsonObject[] {
  const [name, namespace] = [nameOf(service), namespaceOf(service)];
  const owner = {
    apiVersion: 'v1',
    kind: 'Service',
    name,
    uid: uidOf(service),
    controller: true,
    blockOwnerDeletion: true,
  };
  return slicesOf(service, pods).map((slice, index) => ({
    ...slice,
    metadata: {
      name: `${name}-${textAt(slice, 'addressType').toLowerCase()}-${index + 1}`,
      namespace,
      labels: {
        'kubernetes.io/service-name': name,
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
        ...(textAt(service, 'spec', 'clusterIP') === 'None' ? { 'service.kubernetes.io/headless': '' } : {}),
      },
      ownerReferences: [owner],
    },
  }));
}

const contentOf = (slice: JsonObject): string =>
  JSON.stringify([at(slice, 'addressType'), at(slice, 'ports'), at(slice, 'endpoints'), [...labelsOf(slice)]]);

/** Pods that have ended have none; those that are about to end still have, as terminating ones. */
function hasEndpoint(pod: JsonObject): boolean {
  const phase = textAt(pod, 'status', 'phase');
  return phase !== 'Succeeded' && phase !== 'Failed' && objectsAt(pod, 'status', 'podIPs').length > 0;
}
