import type { JsonObject } from '../../../policy/types.ts';
import { at, textAt, textsAt } from './objects.ts';
import type { Store } from './store.ts';

const FAMILIES = ['IPv4', 'IPv6'] as const;
type Family = (typeof FAMILIES)[number];

/** Gives services their cluster addresses: 10.96.0.0/16 and fd00:10:96::/112. */
export class ServiceAddresses {
  /** By address; released when the service goes. */
  readonly #taken = new Set<string>();
  #next = 10;

  constructor(store: Store) {
    store.subscribe('/services', ({ type, entry }) => {
      for (const address of textsAt(entry.object, 'spec', 'clusterIPs')) {
        if (type === 'DELETED') this.#taken.delete(address);
        else this.#taken.add(address);
      }
    });
  }

  /** The service with addresses of the families that it asks for; what it had before stays. Other kinds pass unchanged. */
  assigned(storage: string, object: JsonObject, before: JsonObject | null): JsonObject {
    if (storage !== '/services' || textAt(object, 'spec', 'type') === 'ExternalName') return object;
    const spec = (at(object, 'spec') as JsonObject | undefined) ?? {};
    const policy = textAt(spec, 'ipFamilyPolicy') || textAt(before ?? {}, 'spec', 'ipFamilyPolicy') || 'SingleStack';
    const families = this.#families(spec, before, policy);
    const clusterIPs = this.#addresses(spec, before, families);
    return {
      ...object,
      spec: { ...spec, clusterIP: clusterIPs[0] ?? '', clusterIPs, ipFamilies: families, ipFamilyPolicy: policy },
    };
  }

  #families(spec: JsonObject, before: JsonObject | null, policy: string): readonly Family[] {
    const asked = textsAt(spec, 'ipFamilies');
    const known = asked.length > 0 ? asked : textsAt(before ?? {}, 'spec', 'ipFamilies');
    const first: Family = known[0] === 'IPv6' ? 'IPv6' : 'IPv4';
    return policy === 'SingleStack' ? [first] : [first, first === 'IPv4' ? 'IPv6' : 'IPv4'];
  }

  #addresses(spec: JsonObject, before: JsonObject | null, families: readonly Family[]): readonly string[] {
    const single = textAt(spec, 'clusterIP');
    if (single === 'None') return ['None'];
    const asked = textsAt(spec, 'clusterIPs');
    const given = asked.length > 0 ? asked : single === '' ? textsAt(before ?? {}, 'spec', 'clusterIPs') : [single];
    return families.map((family, index) => given[index] ?? this.#free(family));
  }

  #free(family: Family): string {
    for (;;) {
      const number = this.#next++;
      const address =
        family === 'IPv4' ? `10.96.${(number >> 8) & 255}.${number & 255}` : `fd00:10:96::${number.toString(16)}`;
      if (this.#taken.has(address)) continue;
      this.#taken.add(address);
      return address;
    }
  }
}
