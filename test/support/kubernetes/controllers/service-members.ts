import type { JsonObject } from '../../../../policy/types.ts';
import { at, labelsOf } from '../objects.ts';
import type { Change, Store } from '../store.ts';

type Labels = ReadonlyMap<string, string>;

interface Selecting {
  readonly service: JsonObject;
  readonly selector: readonly (readonly [string, string])[];
  /** Pods by name. */
  readonly pods: Map<string, JsonObject>;
}

/** Which pods each service with a selector selects, kept up to date so that one change of a pod among thousands costs little. */
export class ServiceMembers {
  /** By namespace, then name. */
  readonly #services = new Map<string, Map<string, Selecting>>();
  /** Names of services by `namespace/key=value` of their selector's first label. */
  readonly #byLabel = new Map<string, Set<string>>();
  readonly #onChange: (namespace: string, service: string) => void;
  readonly #store: Store;

  /** Calls `onChange` for each service whose endpoints may have changed. */
  constructor(store: Store, onChange: (namespace: string, service: string) => void) {
    this.#store = store;
    this.#onChange = onChange;
    store.subscribe('/services', (change) => this.#serviceChanged(change));
    store.subscribe('/pods', (change) => this.#podChanged(change));
  }

  /** Null where the service is gone, or has no selector. */
  of(namespace: string, name: string): { readonly service: JsonObject; readonly pods: readonly JsonObject[] } | null {
    const found = this.#services.get(namespace)?.get(name);
    return found === undefined ? null : { service: found.service, pods: [...found.pods.values()] };
  }

  #serviceChanged({ type, entry }: Change): void {
    const { namespace, name, object } = entry;
    const services = this.#services.get(namespace) ?? new Map<string, Selecting>();
    this.#services.set(namespace, services);
    const old = services.get(name)?.selector[0];
    if (old !== undefined) this.#byLabel.get(keyOf(namespace, old))?.delete(name);
    services.delete(name);
    const selector = Object.entries((at(object, 'spec', 'selector') as { [key: string]: string } | undefined) ?? {});
    const [first] = selector;
    if (type !== 'DELETED' && first !== undefined) {
      const key = keyOf(namespace, first);
      this.#byLabel.set(key, (this.#byLabel.get(key) ?? new Set()).add(name));
      const selected = this.#store.list('/pods', namespace).filter((pod) => matches(selector, labelsOf(pod.object)));
      const pods = new Map(selected.map((pod) => [pod.name, pod.object]));
      services.set(name, { service: object, selector, pods });
    }
    this.#onChange(namespace, name);
  }

  #podChanged({ type, entry, before }: Change): void {
    const { namespace, name, object } = entry;
    const now: Labels = type === 'DELETED' ? new Map() : labelsOf(object);
    const then: Labels = before === null ? new Map() : labelsOf(before.object);
    const candidates = new Set(
      [...now, ...then].flatMap((label) => [...(this.#byLabel.get(keyOf(namespace, label)) ?? [])]),
    );
    for (const service of candidates) {
      const selecting = this.#services.get(namespace)?.get(service);
      if (selecting === undefined) continue;
      const is = matches(selecting.selector, now);
      if (is) selecting.pods.set(name, object);
      else if (!selecting.pods.delete(name)) continue;
      this.#onChange(namespace, service);
    }
  }
}

const keyOf = (namespace: string, [key, value]: readonly [string, string]): string => `${namespace}/${key}=${value}`;

function matches(selector: readonly (readonly [string, string])[], labels: Labels): boolean {
  return selector.every(([key, value]) => labels.get(key) === value);
}
