import { performance } from 'node:perf_hooks';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { servedVersion } from '../../../kubernetes/api/served-version.ts';
import type { KubernetesApi } from '../../../kubernetes/api/types.ts';
import { Informer } from '../../../kubernetes/informer/informer.ts';
import type { InformerTimings } from '../../../kubernetes/informer/options.ts';
import type { ObjectChange } from '../../../kubernetes/informer/store.ts';
import { EXIT, messageOf, PosternError } from '../../../mesh/errors.ts';
import type { JsonObject, Manifest, Problem } from '../../../policy/types.ts';
import type { ManifestSource, SourceChange, SourceFault } from '../../source/manifest-source.ts';
import { KindObjects } from './kind-objects.ts';
import { WATCHED_KINDS, type WatchedKind } from './watched-kinds.ts';

export interface KubernetesSourceOptions {
  readonly api: Pick<KubernetesApi, 'list' | 'watch' | 'discover'>;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** How long `start` waits for all kinds together. */
  readonly syncTimeoutMs?: number;
  readonly timings?: Partial<InformerTimings>;
  /** Absent: all. */
  readonly kinds?: readonly WatchedKind[];
}

const SYNC_TIMEOUT_MS = 60_000;

interface Followed {
  readonly informer: Informer<JsonObject>;
  readonly objects: KindObjects;
}

/**
 * Manifests from the API server: services, pods, endpoints, policies and the mesh's own kinds of all namespaces. What was last heard stays in force
 * while the API server is away, each object by itself: `KindObjects` says what becomes of one that is not admissible.
 */
export class KubernetesSource implements ManifestSource {
  readonly #options: KubernetesSourceOptions;
  readonly #kinds: ReadonlyMap<string, Followed>;
  #onChange: ((change: SourceChange) => void) | null = null;
  /** Made when asked for after a change. */
  #manifests: readonly Manifest[] | null = null;
  /** What the next call of `onChange` tells; null: none is due. */
  #pending: { manifests: boolean; readonly noticedAt: number } | null = null;

  constructor(options: KubernetesSourceOptions) {
    this.#options = options;
    const kinds = options.kinds ?? WATCHED_KINDS;
    this.#kinds = new Map(kinds.map((kind) => [kind.type.kind, this.#follow(kind)]));
  }

  get manifests(): readonly Manifest[] {
    this.#manifests ??= [...this.#kinds.values()].flatMap(({ objects }) => objects.manifests);
    return this.#manifests;
  }

  get problems(): readonly Problem[] {
    return [...this.#kinds.values()]
      .flatMap(({ objects }) => objects.problems)
      .sort((a, b) => (a.location.file < b.location.file ? -1 : a.location.file > b.location.file ? 1 : 0));
  }

  /** One for all kinds: mostly they have the same reason. */
  get fault(): SourceFault | null {
    const faults = [...this.#kinds].flatMap(([kind, { informer }]) =>
      informer.fault === null ? [] : [{ kind, ...informer.fault }],
    );
    const [first, ...others] = faults;
    if (first === undefined) return null;
    const kinds = faults.map(({ kind }) => kind).join(', ');
    const more = others.length === 0 ? '' : ` (and more)`;
    const message = `no changes of ${kinds} are heard, what was last heard stays in force: ${first.message}${more}`;
    return { code: 'ERR_KUBERNETES', message };
  }

  /** Unix time, milliseconds, up to which everything is known; null: not everything has been read. */
  get lastContact(): number | null {
    const contacts = [...this.#kinds.values()].map(({ informer }) => informer.lastContact);
    return contacts.reduce((a, b) => (a === null || b === null ? null : Math.min(a, b)), contacts[0] ?? null);
  }

  /** The pod as `slimPod` has it; null where there is none that we know of. */
  pod(namespace: string, name: string): Manifest | null {
    return this.#kinds.get('Pod')?.objects.get(`${namespace}/${name}`) ?? null;
  }

  /** The objects of a kind as the cluster has them now, admissible or not; for those who tell their authors. */
  received(kind: string): readonly Manifest[] {
    return this.#kinds.get(kind)?.objects.received ?? [];
  }

  /** Why an object is refused as it is now; null: it is accepted. @param namespace Empty for a cluster-scoped one. */
  errorOf(kind: string, namespace: string, name: string): string | null {
    return this.#kinds.get(kind)?.objects.errorOf(namespace === '' ? name : `${namespace}/${name}`) ?? null;
  }

  /** @throws PosternError ERR_KUBERNETES_SYNC that says which kinds could not be read, and why. */
  async start(onChange: (change: SourceChange) => void): Promise<void> {
    const informers = [...this.#kinds.values()].map(({ informer }) => informer);
    for (const informer of informers) informer.start();
    const timeoutMs = this.#options.syncTimeoutMs ?? SYNC_TIMEOUT_MS;
    const waits = await Promise.allSettled(informers.map((informer) => informer.whenSynced(timeoutMs)));
    const failures = waits.flatMap((wait) => (wait.status === 'rejected' ? [messageOf(wait.reason)] : []));
    if (failures.length > 0) {
      await this.stop();
      throw new PosternError('ERR_KUBERNETES_SYNC', failures.join('; '), { exitCode: EXIT.unavailable });
    }
    this.#pending = null;
    this.#onChange = onChange;
  }

  async stop(): Promise<void> {
    this.#onChange = null;
    await Promise.all([...this.#kinds.values()].map(({ informer }) => informer.stop()));
  }

  #follow({ type, versions, slim, single }: WatchedKind): Followed {
    const { api, log, timings } = this.#options;
    const objects = new KindObjects(type.kind, { single });
    const informer = new Informer<JsonObject>({
      api,
      type,
      ...(versions.length < 2 ? {} : { locate: (signal) => servedVersion(api, type, versions, signal) }),
      transform: slim,
      equals: isDeepStrictEqual,
      onChange: (changes) => this.#take(objects, changes),
      onFault: () => this.#note(false),
      log,
      ...(timings === undefined ? {} : { timings }),
    });
    return { informer, objects };
  }

  #take(objects: KindObjects, changes: readonly ObjectChange<JsonObject>[]): void {
    for (const { key, after } of changes) objects.set(key, after);
    this.#manifests = null;
    this.#note(true);
  }

  /** One call for all that one turn of the event loop brings. */
  #note(manifests: boolean): void {
    if (this.#pending === null) {
      this.#pending = { manifests, noticedAt: performance.now() };
      setImmediate(() => this.#tell());
    }
    this.#pending.manifests ||= manifests;
  }

  #tell(): void {
    const pending = this.#pending;
    this.#pending = null;
    if (pending !== null) this.#onChange?.(pending);
  }
}
