import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '../../mesh/backoff.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { isReason, KubernetesError } from '../api/errors.ts';
import { resourceVersionOf } from '../api/object-meta.ts';
import type { ResourceType, WatchEvent } from '../api/types.ts';
import { faultMessage, type InformerFault } from './fault.ts';
import { INFORMER_TIMINGS, type InformerOptions, type InformerTimings } from './options.ts';
import { type ObjectChange, ObjectStore } from './store.ts';

/** So many answers in a row that refuse a watch, for whatever reason, make a list worth its cost: the version may be one that the server never had. */
const REFUSALS_BEFORE_LIST = 3;
/** Of these a list would be refused just so, or would make things worse. */
const NOT_OF_THE_VERSION = [0, 401, 403, 429, 503];

/**
 * Keeps a copy of the objects of one kind: lists them, watches from there on, and makes the watch anew wherever it ended; lists again where the server
 * no longer remembers that far back.
 *
 * ALWAYS: what was last heard stays while the server is away. A list takes the place of what was there in one step: nobody sees a moment between.
 */
export class Informer<T> {
  readonly #options: InformerOptions<T>;
  readonly #timings: InformerTimings;
  readonly #store: ObjectStore<T>;
  readonly #backoff: Backoff;
  readonly #stopping = new AbortController();
  readonly #synced = Promise.withResolvers<void>();
  #isSynced = false;
  #running: Promise<void> | null = null;
  #type: ResourceType;
  /** Where the next watch goes on; null: list first. */
  #resourceVersion: string | null = null;
  #lastContact: number | null = null;
  #fault: InformerFault | null = null;
  /** On the clock of `performance.now()`; null: the server has the kind, or was never asked. */
  #absentSince: number | null = null;
  /** Watches in a row that the server refused. */
  #refusals = 0;

  constructor(options: InformerOptions<T>) {
    const { backoffMs, backoffMaxMs } = { ...INFORMER_TIMINGS, ...options.timings };
    this.#options = options;
    this.#timings = { ...INFORMER_TIMINGS, ...options.timings };
    this.#store = new ObjectStore(options.equals);
    this.#type = options.type;
    this.#backoff = new Backoff({
      initialMs: backoffMs,
      maxMs: backoffMaxMs,
      random: options.random ?? Math.random,
    });
    // Whether or not anybody waits for it.
    this.#synced.promise.catch(() => {});
  }

  /** By `<namespace>/<name>` (cluster-scoped: `<name>`). */
  get objects(): ReadonlyMap<string, T> {
    return this.#store.objects;
  }

  get type(): ResourceType {
    return this.#type;
  }

  /** Whether everything has been read once. A kind that the server does not have is read when that is known. */
  get synced(): boolean {
    return this.#isSynced;
  }

  /**
   * Unix time, milliseconds, at which what `objects` holds was last known to be true: the sending of the last good list, the arrival of the last
   * event or bookmark. Null: never.
   */
  get lastContact(): number | null {
    return this.#lastContact;
  }

  /** Why nothing can be heard at present; null while all is well. */
  get fault(): InformerFault | null {
    return this.#fault;
  }

  /** Whether the server does not have the kind. */
  get absent(): boolean {
    return this.#absentSince !== null;
  }

  start(): void {
    this.#running ??= this.#run(this.#stopping.signal);
  }

  /** @throws PosternError ERR_KUBERNETES_SYNC that says what is missing and why. */
  async whenSynced(timeoutMs: number): Promise<void> {
    const over = new AbortController();
    const late = sleep(timeoutMs, null, { signal: over.signal }).then(
      () => {
        const { kind } = this.#options.type;
        const why = this.#fault?.message ?? 'the API server has not answered yet';
        const message = `${kind} objects could not be read within ${timeoutMs} ms: ${why}`;
        throw new PosternError('ERR_KUBERNETES_SYNC', message, { exitCode: EXIT.unavailable });
      },
      () => undefined,
    );
    try {
      await Promise.race([this.#synced.promise, late]);
    } finally {
      over.abort();
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#synced.reject(
      new PosternError('ERR_KUBERNETES_SYNC', `the reading of ${this.#type.kind} objects was given up`),
    );
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const pauseMs = await this.#attempt(signal);
      // Also where there is nothing to wait for: others must have their turn. The only rejection is that of the signal, which the loop looks at.
      await sleep(pauseMs, null, { signal }).catch(() => {});
    }
  }

  /** One list where that is needed, then one watch to its end. @returns how long to wait before the next. */
  async #attempt(signal: AbortSignal): Promise<number> {
    try {
      if (this.#resourceVersion === null && !(await this.#list(signal))) {
        const { absentMs, absentConfirmMs } = this.#timings;
        return this.#isSynced ? absentMs : Math.min(absentMs, absentConfirmMs / 2);
      }
      return await this.#watch(signal);
    } catch (error) {
      if (signal.aborted) return 0;
      return this.#failed(error);
    }
  }

  /** @returns false where the server does not have the kind. */
  async #list(signal: AbortSignal): Promise<boolean> {
    const { api, selection = {}, locate, type } = this.#options;
    const at = Date.now();
    const located = locate === undefined ? type : await locate(signal);
    if (located === null) return this.#missing();
    this.#type = located;
    const objects = new Map<string, T>();
    const take = (items: readonly JsonObject[]): void => {
      for (const item of items) {
        const kept = this.#options.transform(item);
        if (kept !== null) objects.set(keyOf(item), kept);
      }
    };
    try {
      const { items, resourceVersion } = await api.list(located, selection, signal, take);
      take(items);
      this.#resourceVersion = resourceVersion;
    } catch (error) {
      if (isReason(error, 'NotFound')) return this.#missing();
      throw error;
    }
    this.#absentSince = null;
    this.#take(objects, at);
    return true;
  }

  /** A server that is just starting may not know its custom resources for a moment: what was there stays until that has lasted. */
  #missing(): false {
    const now = performance.now();
    this.#absentSince ??= now;
    const { absentSettleMs, absentConfirmMs } = this.#timings;
    const settleMs = this.#store.objects.size > 0 ? absentSettleMs : this.#isSynced ? 0 : absentConfirmMs;
    if (now - this.#absentSince >= settleMs) this.#take(new Map(), Date.now());
    else if (this.#isSynced)
      this.#complain('NotFound', `the API server does not serve ${this.#options.type.plural} any more`);
    return false;
  }

  #take(objects: ReadonlyMap<string, T>, at: number): void {
    const changes = this.#store.replace(objects);
    this.#lastContact = at;
    this.#recovered();
    this.#isSynced = true;
    this.#tell(changes);
    this.#synced.resolve();
  }

  /** @returns how long to wait before the next. */
  async #watch(signal: AbortSignal): Promise<number> {
    const { api, selection = {} } = this.#options;
    const stale = new AbortController();
    const timer = setTimeout(() => stale.abort(), this.#timings.staleMs);
    const startedAt = performance.now();
    let opened = false;
    let heard = false;
    const onOpen = (): void => {
      opened = true;
      this.#refusals = 0;
      this.#recovered();
    };
    const onEvent = (event: WatchEvent): void => {
      timer.refresh();
      if (!opened) onOpen();
      heard = true;
      this.#onEvent(event);
    };
    try {
      const from = { ...selection, resourceVersion: this.#resourceVersion ?? '' };
      await api.watch(this.#type, from, onEvent, AbortSignal.any([signal, stale.signal]), onOpen);
    } catch (error) {
      // A connection that breaks, or that we broke, is nothing to speak of as long as the next can be made.
      const broke = opened && (stale.signal.aborted || isReason(error, 'Unreachable'));
      if (!signal.aborted && !broke) {
        this.#refused(error);
        throw error;
      }
    } finally {
      clearTimeout(timer);
    }
    const missing = this.#timings.leastWatchMs - (performance.now() - startedAt);
    if (!heard && missing > 0) return this.#backoff.next();
    this.#backoff.reset();
    return Math.max(missing, 0);
  }

  /** Lists anew where the watch's version may be the reason: forgotten by the server, or never its own (a restored backup). */
  #refused(error: unknown): void {
    if (!(error instanceof KubernetesError)) return;
    if (!NOT_OF_THE_VERSION.includes(error.status)) this.#refusals += 1;
    const ofTheVersion = isReason(error, 'Expired', 'Gone', 'NotFound') || this.#refusals >= REFUSALS_BEFORE_LIST;
    if (!ofTheVersion) return;
    this.#refusals = 0;
    this.#resourceVersion = null;
  }

  #onEvent(event: WatchEvent): void {
    this.#lastContact = Date.now();
    this.#recovered();
    if (event.type === 'BOOKMARK') {
      this.#resourceVersion = event.resourceVersion;
      return;
    }
    const { type, object } = event;
    const change = this.#store.set(keyOf(object), type === 'DELETED' ? null : this.#options.transform(object));
    this.#resourceVersion = resourceVersionOf(object) ?? this.#resourceVersion;
    if (change !== null) this.#tell([change]);
  }

  #tell(changes: readonly ObjectChange<T>[]): void {
    if (changes.length === 0) return;
    try {
      this.#options.onChange?.(changes);
    } catch (error) {
      // The copy is right all the same; it must go on being kept.
      this.#options.log.error({ err: error, kind: this.#options.type.kind }, 'a change could not be taken over');
    }
  }

  #failed(error: unknown): number {
    // What the server forgot is listed anew; nothing is wrong with that.
    if (isReason(error, 'Expired', 'Gone')) return this.#backoff.next();
    if (error instanceof KubernetesError) {
      this.#complain(error.reason, faultMessage(error, this.#options.type, this.#options.selection?.namespace ?? ''));
    } else this.#complain('Unknown', messageOf(error));
    const asked = error instanceof KubernetesError ? (error.retryAfterMs ?? 0) : 0;
    return Math.max(this.#backoff.next(), Math.min(asked, this.#timings.backoffMaxMs));
  }

  #complain(reason: string, message: string): void {
    if (this.#fault?.message === message) return;
    this.#setFault({ reason, message });
    this.#options.log.warn({ kind: this.#options.type.kind, reason }, `${message}; what was last heard stays in force`);
  }

  #recovered(): void {
    if (this.#fault === null) return;
    this.#setFault(null);
    this.#options.log.info({ kind: this.#options.type.kind }, 'the Kubernetes API answers again');
  }

  #setFault(fault: InformerFault | null): void {
    this.#fault = fault;
    try {
      this.#options.onFault?.(fault);
    } catch (error) {
      this.#options.log.error({ err: error }, 'a fault could not be taken over');
    }
  }
}

/** `<namespace>/<name>`, or `<name>` of a cluster-scoped object. */
export function keyOf(object: JsonObject): string {
  const metadata = asObject(field(object, 'metadata'));
  const namespace = asString(field(metadata, 'namespace')) ?? '';
  const name = asString(field(metadata, 'name')) ?? '';
  return namespace === '' ? name : `${namespace}/${name}`;
}
