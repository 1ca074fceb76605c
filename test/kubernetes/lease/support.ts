import { setTimeout as sleep } from 'node:timers/promises';
import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import type { KubernetesApi, ObjectName, ResourceType } from '../../../kubernetes/api/types.ts';
import type { JsonObject } from '../../../policy/types.ts';

/** One object with optimistic concurrency. */
export class LeaseServer {
  object: JsonObject | null = null;
  writes = 0;
  #version = 0;

  get spec(): JsonObject {
    return (this.object?.spec ?? {}) as JsonObject;
  }

  store(object: JsonObject): JsonObject {
    this.#version += 1;
    this.writes += 1;
    const metadata = { ...(object.metadata as JsonObject), resourceVersion: String(this.#version) };
    this.object = { ...object, metadata };
    return this.object;
  }

  versionOf(object: JsonObject | null): unknown {
    return (object?.metadata as JsonObject | undefined)?.resourceVersion;
  }
}

/** One replica's way to the server, which may be slow or broken. */
export class LeaseClient implements Pick<KubernetesApi, 'get' | 'create' | 'replace'> {
  /** What happens on the way there, and on the way back; throws where it does not arrive. */
  before: () => Promise<void> = async () => {};
  after: () => Promise<void> = async () => {};
  readonly #server: LeaseServer;

  constructor(server: LeaseServer) {
    this.#server = server;
  }

  async get(_type: ResourceType, _name: ObjectName, signal?: AbortSignal): Promise<JsonObject> {
    return this.#call(signal, () => this.#server.object ?? fail('NotFound', 404));
  }

  async create(
    _type: ResourceType,
    _namespace: string,
    object: JsonObject,
    options?: { readonly signal?: AbortSignal },
  ): Promise<JsonObject> {
    return this.#call(options?.signal, () =>
      this.#server.object === null ? this.#server.store(object) : fail('AlreadyExists', 409),
    );
  }

  async replace(
    _type: ResourceType,
    _name: ObjectName,
    object: JsonObject,
    options?: { readonly signal?: AbortSignal },
  ): Promise<JsonObject> {
    const { versionOf } = this.#server;
    return this.#call(options?.signal, () => {
      if (this.#server.object === null) return fail('NotFound', 404);
      return versionOf(object) === versionOf(this.#server.object) ? this.#server.store(object) : fail('Conflict', 409);
    });
  }

  async #call(signal: AbortSignal | undefined, act: () => JsonObject): Promise<JsonObject> {
    const given = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(new KubernetesError('Aborted', 0, 'given up')), { once: true });
    });
    const work = async (): Promise<JsonObject> => {
      await this.before();
      const answer = act();
      await this.after();
      return answer;
    };
    const running = work();
    running.catch(() => {});
    return Promise.race([running, given]);
  }
}

export const broken = async (): Promise<never> => {
  throw new KubernetesError('Unreachable', 0, 'connect ECONNREFUSED');
};

export const slow = (ms: number) => async (): Promise<void> => {
  await sleep(ms);
};

function fail(reason: string, status: number): never {
  throw new KubernetesError(reason, status, reason);
}
