import type { KubernetesApi, ResourceType } from '../api/types.ts';
import type { Identity } from './identity.ts';

/** How the API serves the kinds of manifests; each group and version is asked for once, those that are not there each time. */
export class ServedTypes {
  readonly #api: Pick<KubernetesApi, 'discover'>;
  readonly #served = new Map<string, readonly ResourceType[]>();

  constructor(api: Pick<KubernetesApi, 'discover'>) {
    this.#api = api;
  }

  /** Null where the API does not have the kind. @throws KubernetesError */
  async find({ apiVersion, kind }: Identity, signal: AbortSignal): Promise<ResourceType | null> {
    let types = this.#served.get(apiVersion);
    if (types === undefined) {
      types = (await this.#api.discover(apiVersion, signal)) ?? [];
      if (types.length > 0) this.#served.set(apiVersion, types);
    }
    return types.find((type) => type.kind === kind) ?? null;
  }
}
