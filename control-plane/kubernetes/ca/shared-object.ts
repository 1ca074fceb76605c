import { isReason } from '../../../kubernetes/api/errors.ts';
import { resourceVersionOf } from '../../../kubernetes/api/object-meta.ts';
import type { KubernetesApi, ResourceType } from '../../../kubernetes/api/types.ts';
import type { JsonObject } from '../../../policy/types.ts';

/** What of the API a shared object needs. */
export type ObjectApi = Pick<KubernetesApi, 'get' | 'create' | 'replace'>;

export interface Reading {
  /** Null: there is none. */
  readonly object: JsonObject | null;
  /** Unix time, milliseconds, at which the question was sent: what was stored before is in the answer. */
  readonly askedAt: number;
}

/** A change to be told of by the API: only a reason to read, since what a watch delivers may be older than what was read meanwhile. */
export interface ObjectWatch {
  start(onChange: () => void): void;
  stop(): void | Promise<void>;
}

const TIMEOUT_MS = 10_000;

/** One Secret or ConfigMap that replicas share: read from the API's own store rather than from a cache, written only as it was read. */
export class SharedObject {
  /** `Secret postern-system/postern-ca`, for messages. */
  readonly where: string;
  readonly #api: ObjectApi;
  readonly #type: ResourceType;
  readonly #name: { readonly namespace: string; readonly name: string };
  readonly #clock: () => number;

  constructor(options: {
    readonly api: ObjectApi;
    readonly type: ResourceType;
    readonly namespace: string;
    readonly name: string;
    /** Unix time, milliseconds. */
    readonly clock: () => number;
  }) {
    const { api, type, namespace, name, clock } = options;
    this.where = `${type.kind} ${namespace}/${name}`;
    this.#api = api;
    this.#type = type;
    this.#name = { namespace, name };
    this.#clock = clock;
  }

  /** @throws KubernetesError */
  async read(): Promise<Reading> {
    const askedAt = this.#clock();
    try {
      return { object: await this.#api.get(this.#type, this.#name, AbortSignal.timeout(TIMEOUT_MS)), askedAt };
    } catch (error) {
      if (isReason(error, 'NotFound')) return { object: null, askedAt };
      throw error;
    }
  }

  /** @throws KubernetesError AlreadyExists where another was faster */
  async create(content: JsonObject, signal?: AbortSignal): Promise<void> {
    const { apiVersion, kind } = apiVersionOf(this.#type);
    const metadata = { ...this.#name, labels: { 'app.kubernetes.io/managed-by': 'postern' } };
    const object = { apiVersion, kind, metadata, ...content };
    await this.#api.create(this.#type, this.#name.namespace, object, { signal: deadline(signal) });
  }

  /** Replaces what was read. @throws KubernetesError Conflict where it is not the newest any more, NotFound where it is gone */
  async replace(read: JsonObject, content: JsonObject, signal?: AbortSignal): Promise<void> {
    // Without a version the API would compare nothing.
    if (resourceVersionOf(read) === null) throw new TypeError(`${this.where} was read without a resourceVersion`);
    await this.#api.replace(this.#type, this.#name, { ...read, ...content }, { signal: deadline(signal) });
  }
}

function deadline(signal: AbortSignal | undefined): AbortSignal {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  return signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
}

const apiVersionOf = ({
  group,
  version,
  kind,
}: ResourceType): { readonly apiVersion: string; readonly kind: string } => ({
  apiVersion: group === '' ? version : `${group}/${version}`,
  kind,
});
