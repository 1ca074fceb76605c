import type { ServerResponse } from 'node:http';
import type { JsonObject } from '../../../policy/types.ts';
import { type Collection, requireKnown, revisionOf, selectorOf } from './lists.ts';
import { isTrue } from './request-info.ts';
import type { Selector } from './selectors.ts';
import { expired } from './status.ts';
import type { Change, Entry, Store } from './store.ts';
import { apiVersionOf } from './type-registry.ts';

export type EventType = Change['type'];

/** How an object stands in an event: as JSON, or as a table of one row. */
export type EventText = (entry: Entry) => string;

const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

/** Seconds after which a server ends a watch that names no time; upstream draws between 30 and 60 minutes. */
const DEFAULT_SECONDS = 1800;

export interface WatchSettings {
  readonly bookmarkMs: number;
  /** How a revision that is too old is told: by the answer's status, or by an event of a stream that began well. */
  readonly goneAs: () => 'status' | 'event';
  /** While it holds, nothing is sent. */
  readonly isPaused: () => boolean;
}

/** All watches that are open. */
export class Watches {
  readonly #store: Store;
  readonly #settings: WatchSettings;
  readonly #open = new Set<Watch>();

  constructor(store: Store, settings: WatchSettings) {
    this.#store = store;
    this.#settings = settings;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Answers with a stream of events. @throws ApiFailure 400, 410, 504. */
  start(collection: Collection, query: URLSearchParams, response: ServerResponse, text: EventText): void {
    const store = this.#store;
    const { type, namespace } = collection;
    const asked = query.get('resourceVersion') ?? '';
    const from = revisionOf(asked);
    requireKnown(from, store.revision);
    const selects = selectorOf(type.storage, query);
    const initial = isTrue(query.get('sendInitialEvents')) && query.has('sendInitialEvents');
    const missed = from === 0 || initial ? [] : store.since(type.storage, from);
    if (missed === null && this.#settings.goneAs() === 'status') throw expired(tooOld(from, store.revision));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const watch = new Watch(response, selects, namespace, text, this.#settings);
    if (missed === null) {
      watch.fail(expired(tooOld(from, store.revision)).status);
      return;
    }
    // From no revision at all: what there is now comes first.
    if (from === 0 || initial) watch.begin(store.list(type.storage, namespace));
    for (const change of missed) watch.change(change);
    const bookmarks = isTrue(query.get('allowWatchBookmarks')) && query.has('allowWatchBookmarks');
    const bookmark = (annotations?: JsonObject): void =>
      watch.bookmark(type.kind, apiVersionOf(type), store.revision, annotations);
    if (initial && bookmarks) bookmark({ [INITIAL_EVENTS_END]: 'true' });
    this.#keep(watch, {
      storage: type.storage,
      seconds: Number(query.get('timeoutSeconds') ?? 0) || DEFAULT_SECONDS,
      bookmark: bookmarks ? bookmark : null,
    });
  }

  /** Ends all streams in good order. */
  end(): void {
    for (const watch of [...this.#open]) watch.end();
  }

  /** Ends all streams by an ERROR event with code 410. */
  expire(): void {
    for (const watch of [...this.#open]) watch.fail(expired(tooOld(1, this.#store.revision)).status);
  }

  /** Sends what was held back during a pause. */
  flush(): void {
    for (const watch of this.#open) watch.flush();
  }

  #keep(
    watch: Watch,
    options: { readonly storage: string; readonly seconds: number; readonly bookmark: (() => void) | null },
  ): void {
    const { bookmark } = options;
    const timers = [
      setTimeout(() => {
        bookmark?.();
        watch.end();
      }, options.seconds * 1000),
    ];
    const ticking = bookmark === null ? null : setInterval(bookmark, this.#settings.bookmarkMs);
    const unsubscribe = this.#store.subscribe(options.storage, (change) => watch.change(change));
    this.#open.add(watch);
    watch.onEnd(() => {
      for (const timer of timers) clearTimeout(timer);
      if (ticking !== null) clearInterval(ticking);
      unsubscribe();
      this.#open.delete(watch);
    });
  }
}

const tooOld = (asked: number, current: number): string => `too old resource version: ${asked} (${current})`;

/** One stream of events. */
class Watch {
  readonly #response: ServerResponse;
  readonly #selects: Selector;
  readonly #namespace: string | null;
  readonly #text: EventText;
  readonly #settings: WatchSettings;
  /** What a pause keeps back. */
  readonly #held: string[] = [];
  #isEnding = false;

  constructor(
    response: ServerResponse,
    selects: Selector,
    namespace: string | null,
    text: EventText,
    settings: WatchSettings,
  ) {
    this.#response = response;
    this.#selects = selects;
    this.#namespace = namespace;
    this.#text = text;
    this.#settings = settings;
  }

  begin(entries: readonly Entry[]): void {
    const chosen = entries.filter(({ object }) => this.#selects(object));
    this.#write(chosen.map((entry) => this.#line('ADDED', entry)).join(''));
  }

  /** An object that comes into the selection is ADDED, one that leaves it DELETED, whatever it was to others. */
  change({ type, entry, before }: Change): void {
    if (this.#namespace !== null && entry.namespace !== this.#namespace) return;
    const was = before !== null && this.#selects(before.object);
    const is = type !== 'DELETED' && this.#selects(entry.object);
    if (is) this.#write(this.#line(was ? 'MODIFIED' : 'ADDED', entry));
    else if (was) this.#write(this.#line('DELETED', entry));
  }

  bookmark(kind: string, apiVersion: string, revision: number, annotations?: JsonObject): void {
    const metadata = {
      resourceVersion: String(revision),
      creationTimestamp: null,
      ...(annotations && { annotations }),
    };
    this.#write(`${JSON.stringify({ type: 'BOOKMARK', object: { kind, apiVersion, metadata } })}\n`);
  }

  fail(status: JsonObject): void {
    this.#write(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
    this.end();
  }

  end(): void {
    this.#isEnding = true;
    if (!this.#settings.isPaused()) this.flush();
  }

  onEnd(then: () => void): void {
    this.#response.on('close', then);
  }

  flush(): void {
    const held = this.#held.splice(0).join('');
    if (held !== '' && !this.#response.writableEnded) this.#response.write(held);
    if (this.#isEnding) this.#response.end();
  }

  #line(type: EventType, entry: Entry): string {
    return `{"type":"${type}","object":${this.#text(entry)}}\n`;
  }

  #write(text: string): void {
    if (this.#isEnding || text === '') return;
    if (this.#settings.isPaused()) this.#held.push(text);
    else this.#response.write(text);
  }
}
