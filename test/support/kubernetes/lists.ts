import { fieldSelector, labelSelector, type Selector } from './selectors.ts';
import { ApiFailure, badRequest, expired } from './status.ts';
import type { Entry, Store } from './store.ts';
import type { ServedType } from './type-registry.ts';

export interface Collection {
  readonly type: ServedType;
  /** Null: all namespaces, or a kind of the cluster's. */
  readonly namespace: string | null;
}

export interface Page {
  readonly entries: readonly Entry[];
  readonly revision: number;
  /** Empty on the last page. */
  readonly next: string;
  readonly remaining: number;
}

/** A list that is being read by pages: each page is of the moment at which the first was read. */
interface Snapshot {
  readonly entries: readonly Entry[];
  readonly revision: number;
}

const MAX_SNAPSHOTS = 64;

export function selectorOf(storage: string, query: URLSearchParams): Selector {
  const byLabel = labelSelector(query.get('labelSelector') ?? '');
  const byField = fieldSelector(query.get('fieldSelector') ?? '', storage);
  return (object) => byLabel(object) && byField(object);
}

/** A revision as a client names it. @throws ApiFailure 400 where it is no number. */
export function revisionOf(text: string): number {
  if (text === '') return 0;
  if (!/^\d{1,15}$/.test(text))
    throw badRequest(
      `resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  return Number(text);
}

export function requireKnown(revision: number, current: number): void {
  if (revision <= current) return;
  throw new ApiFailure('Timeout', `Too large resource version: ${revision}, current: ${current}`, {
    details: {
      causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
      retryAfterSeconds: 1,
    },
  });
}

/** Reads collections, whole or by pages. */
export class Lists {
  readonly #store: Store;
  readonly #snapshots = new Map<string, Snapshot>();
  #nextId = 1;

  constructor(store: Store) {
    this.#store = store;
  }

  /** @throws ApiFailure 410 where pages are asked for that are forgotten. */
  read({ type, namespace }: Collection, query: URLSearchParams): Page {
    // Upstream answers a list from its cache, which knows no pages, where any version is good enough.
    const fromCache = query.get('resourceVersion') === '0';
    const limit = fromCache ? 0 : Number(query.get('limit') ?? 0);
    const token = query.get('continue') ?? '';
    if (token !== '') return this.#go(token, limit);
    const revision = revisionOf(query.get('resourceVersion') ?? '');
    requireKnown(revision, this.#store.revision);
    if (query.get('resourceVersionMatch') === 'Exact' && revision !== this.#store.revision) {
      throw expired(`The provided resource version is too old: ${revision}`);
    }
    const selects = selectorOf(type.storage, query);
    const entries = this.#store.list(type.storage, namespace).filter(({ object }) => selects(object));
    return this.#page({ entries, revision: this.#store.revision }, 0, limit, '');
  }

  /** All lists that are being read by pages expire. */
  forget(): void {
    this.#snapshots.clear();
  }

  #go(token: string, limit: number): Page {
    const [, id = '', start = ''] = /^(\d+)\.(\d+)$/.exec(Buffer.from(token, 'base64url').toString()) ?? [];
    if (id === '') throw badRequest('continue key is not valid: invalid character');
    const snapshot = this.#snapshots.get(id);
    if (snapshot === undefined) {
      throw expired(
        'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.',
      );
    }
    return this.#page(snapshot, Number(start), limit, id);
  }

  #page(snapshot: Snapshot, start: number, limit: number, known: string): Page {
    const { entries, revision } = snapshot;
    const end = limit > 0 ? Math.min(start + limit, entries.length) : entries.length;
    const remaining = entries.length - end;
    if (remaining === 0) return { entries: entries.slice(start, end), revision, next: '', remaining };
    const id = known === '' ? this.#keep(snapshot) : known;
    const next = Buffer.from(`${id}.${end}`).toString('base64url');
    return { entries: entries.slice(start, end), revision, next, remaining };
  }

  #keep(snapshot: Snapshot): string {
    const [oldest] = this.#snapshots.keys();
    if (this.#snapshots.size >= MAX_SNAPSHOTS && oldest !== undefined) this.#snapshots.delete(oldest);
    const id = String(this.#nextId++);
    this.#snapshots.set(id, snapshot);
    return id;
  }
}

/** The list as the server writes it; the items' JSON is shared by all who read. */
export function listText(type: ServedType, apiVersion: string, page: Page): string {
  const meta = {
    resourceVersion: String(page.revision),
    ...(page.next === '' ? {} : { continue: page.next, remainingItemCount: page.remaining }),
  };
  const items = page.entries.map((entry) => entry.text(apiVersion)).join(',');
  return `{"kind":"${type.kind}List","apiVersion":"${apiVersion}","metadata":${JSON.stringify(meta)},"items":[${items}]}`;
}
