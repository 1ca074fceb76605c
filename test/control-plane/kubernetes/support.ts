import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import type { KubernetesApi, ObjectName, ResourceType } from '../../../kubernetes/api/types.ts';
import { asObject, field } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';

export interface LogLine {
  readonly level: 'info' | 'warn' | 'error';
  readonly text: string;
}

/** Keeps what would be logged. */
export function memoryLog() {
  const lines: LogLine[] = [];
  const at = (level: LogLine['level']) => (first: unknown, second?: unknown) => {
    lines.push({ level, text: String(second ?? first) });
  };
  return { lines, info: at('info'), warn: at('warn'), error: at('error') };
}

type Method = 'get' | 'create' | 'replace';

/** Objects with resourceVersions, in memory: what the CA needs of the API, and a hook before each call that may change them or throw. */
export class FakeObjects implements Pick<KubernetesApi, Method> {
  readonly calls: string[] = [];
  before: (method: Method, key: string) => void | Promise<void> = () => {};
  /** After the store has changed, before the answer: an answer that is lost. */
  after: (method: Method, key: string) => void = () => {};
  readonly #objects = new Map<string, JsonObject>();
  #revision = 0;

  async get(type: ResourceType, name: ObjectName): Promise<JsonObject> {
    const key = await this.#enter('get', type, name);
    const object = this.#objects.get(key);
    if (object === undefined) throw new KubernetesError('NotFound', 404, `${key} not found`);
    return object;
  }

  async create(type: ResourceType, namespace: string, object: JsonObject): Promise<JsonObject> {
    const name = String(field(asObject(field(object, 'metadata')), 'name'));
    const key = await this.#enter('create', type, { namespace, name });
    if (this.#objects.has(key)) throw new KubernetesError('AlreadyExists', 409, `${key} exists`);
    return this.#store('create', key, object);
  }

  async replace(type: ResourceType, name: ObjectName, object: JsonObject): Promise<JsonObject> {
    const key = await this.#enter('replace', type, name);
    const current = this.#objects.get(key);
    if (current === undefined) throw new KubernetesError('NotFound', 404, `${key} not found`);
    if (versionOf(current) !== versionOf(object)) throw new KubernetesError('Conflict', 409, `${key} has changed`);
    return this.#store('replace', key, object);
  }

  peek(key: string): JsonObject | null {
    return this.#objects.get(key) ?? null;
  }

  /** As someone else would write it; null deletes. */
  put(key: string, object: JsonObject | null): void {
    if (object === null) this.#objects.delete(key);
    else this.#objects.set(key, this.#versioned(object));
  }

  writes(): string[] {
    return this.calls.filter((call) => !call.startsWith('get'));
  }

  async #enter(method: Method, { kind }: ResourceType, { namespace, name }: ObjectName): Promise<string> {
    const key = `${kind} ${namespace}/${name}`;
    this.calls.push(`${method} ${key}`);
    await this.before(method, key);
    return key;
  }

  #store(method: Method, key: string, object: JsonObject): JsonObject {
    const stored = this.#versioned(object);
    this.#objects.set(key, stored);
    this.after(method, key);
    return stored;
  }

  #versioned(object: JsonObject): JsonObject {
    this.#revision += 1;
    const metadata = { ...asObject(field(object, 'metadata')), resourceVersion: String(this.#revision) };
    return { ...object, metadata };
  }
}

const versionOf = (object: JsonObject): unknown => field(asObject(field(object, 'metadata')), 'resourceVersion');
